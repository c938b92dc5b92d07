package admin

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
)

// classes are the connector classes by kind.
var classes = map[string]string{kindSource: "TwinlogSource", kindSink: "TwinlogSink"}

type plugin struct {
	Class string `json:"class"`
	Type  string `json:"type"`
}

func (s *Server) plugins(w http.ResponseWriter, _ *http.Request) {
	s.writeJSON(w, http.StatusOK, []plugin{{classes[kindSource], kindSource}, {classes[kindSink], kindSink}})
}

// configInfos is Connect's answer to a validation; here each of its configs is
// an item of the pre-check.
type configInfos struct {
	Name       string       `json:"name"`
	ErrorCount int          `json:"error_count"` // configs with errors
	Groups     []string     `json:"groups"`
	Configs    []configInfo `json:"configs"`
}

type configInfo struct {
	Definition configKey   `json:"definition"`
	Value      configValue `json:"value"`
}

type configKey struct {
	Name          string   `json:"name"`
	Type          string   `json:"type"`
	Required      bool     `json:"required"`
	DefaultValue  *string  `json:"default_value"`
	Importance    string   `json:"importance"`
	Documentation string   `json:"documentation"`
	Group         string   `json:"group"`
	OrderInGroup  int      `json:"order_in_group"`
	Width         string   `json:"width"`
	DisplayName   string   `json:"display_name"`
	Dependents    []string `json:"dependents"`
}

type configValue struct {
	Name              string   `json:"name"`
	Value             string   `json:"value"`
	RecommendedValues []string `json:"recommended_values"`
	Errors            []string `json:"errors"`
	Visible           bool     `json:"visible"`
}

const precheckGroup = "Pre-check"

// validate runs the pre-check of the link that the worker runs, whichever of
// the two classes is asked: the configuration is the worker's file, and what a
// client sends along is only checked for being JSON.
func (s *Server) validate(w http.ResponseWriter, r *http.Request) {
	class := r.PathValue("class")
	if class != classes[kindSource] && class != classes[kindSink] {
		s.writeError(w, http.StatusNotFound, "connector class "+class+" not found: this worker has "+classes[kindSource]+" and "+classes[kindSink])
		return
	}
	if code, err := checkConfigBody(r.Body); err != nil {
		s.writeError(w, code, err.Error())
		return
	}
	ctx, cancel := s.bounded(r.Context())
	defer cancel()
	v, err := s.worker.Validate(ctx)
	if err != nil {
		s.writeWorkerError(w, "running the pre-check", err)
		return
	}
	s.writeJSON(w, http.StatusOK, configInfosOf(class, v))
}

// checkConfigBody accepts nothing or a JSON object.
func checkConfigBody(body io.Reader) (int, error) {
	var config map[string]any
	err := json.NewDecoder(body).Decode(&config)
	var tooLarge *http.MaxBytesError
	switch {
	case err == nil, errors.Is(err, io.EOF):
		return 0, nil
	case errors.As(err, &tooLarge):
		return http.StatusRequestEntityTooLarge, fmt.Errorf("the body is larger than %d bytes", tooLarge.Limit)
	default:
		return http.StatusBadRequest, fmt.Errorf("the body must be empty or a JSON object of configuration values: %w", err)
	}
}

func configInfosOf(class string, v Validation) configInfos {
	infos := configInfos{Name: class, Groups: []string{precheckGroup}, Configs: []configInfo{}}
	for i, item := range v.Items {
		if len(item.Errors) > 0 {
			infos.ErrorCount++
		}
		infos.Configs = append(infos.Configs, configInfo{
			Definition: configKey{
				Name: item.Name, Type: "STRING", Importance: "HIGH", Documentation: item.Documentation, Group: precheckGroup,
				OrderInGroup: i + 1, Width: "LONG", DisplayName: item.Name, Dependents: []string{},
			},
			Value: configValue{
				Name: item.Name, Value: item.Value, RecommendedValues: notNil(item.Remedies), Errors: notNil(item.Errors), Visible: true,
			},
		})
	}
	return infos
}

// notNil keeps an empty list from being null in JSON.
func notNil(list []string) []string {
	if list == nil {
		return []string{}
	}
	return list
}
