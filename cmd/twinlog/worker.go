package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"syscall"
	"time"
)

// workerClient asks a running worker over HTTP.
type workerClient struct{ base string }

// newWorkerClient finds the worker of a configuration file.
func newWorkerClient(path string) (workerClient, error) {
	c, err := loadConfig(path)
	if err != nil {
		return workerClient{}, err
	}
	host, port, err := net.SplitHostPort(c.HTTP.Listen)
	if err != nil {
		return workerClient{}, usage(fmt.Errorf("http.listen %q: %w", c.HTTP.Listen, err))
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1" // the worker listens everywhere: ask it here
	}
	return workerClient{"http://" + net.JoinHostPort(host, port)}, nil
}

// answerLimit bounds what is read of an answer.
const answerLimit = 4 << 20

// do sends one request and returns the body of a 2xx answer.
func (w workerClient) do(ctx context.Context, method, path string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, w.base+path, http.NoBody)
	if err != nil {
		return nil, fmt.Errorf("asking the worker: %w", err)
	}
	resp, err := http.DefaultClient.Do(req)
	if errors.Is(err, syscall.ECONNREFUSED) {
		return nil, fmt.Errorf("no worker listens at %s: start it with `twinlog run -c FILE`, or see http.listen of its configuration", w.base)
	}
	if err != nil {
		return nil, fmt.Errorf("asking the worker at %s: %w", w.base, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, answerLimit))
	if err != nil {
		return nil, fmt.Errorf("reading the worker's answer: %w", err)
	}
	if resp.StatusCode/100 == 2 {
		return body, nil
	}
	var refusal struct {
		Message string `json:"message"`
	}
	if json.Unmarshal(body, &refusal) == nil && refusal.Message != "" {
		return nil, fmt.Errorf("the worker at %s answers: %s", w.base, refusal.Message)
	}
	return nil, fmt.Errorf("the worker at %s answers %s to %s %s", w.base, resp.Status, method, path)
}
