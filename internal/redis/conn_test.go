package redis

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"twinlog/internal/testkit"
)

func dial(t *testing.T, c Config) *Conn {
	t.Helper()
	conn, err := Dial(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

func TestConn(t *testing.T) {
	server := testkit.StartRedis(t)
	config := Config{Addrs: []string{server.Addr()}}
	for _, tt := range []struct {
		name string
		test func(*testing.T, *testkit.Redis, *Conn)
	}{
		{"commands are pipelined and answered in order", pipelined},
		{"many bytes are sent from where they are", largeRaw},
		{"INFO's fields are read by name", infoFields},
		{"a done ctx ends what blocks, and the connection", ctxEndsReceive},
	} {
		t.Run(tt.name, func(t *testing.T) { tt.test(t, server, dial(t, config)) })
	}
}

func pipelined(t *testing.T, _ *testkit.Redis, c *Conn) {
	const commands = 10_000
	value := strings.Repeat("v", 100)
	for i := range commands {
		if i%2 == 0 {
			c.Command("SET", "k"+strconv.Itoa(i), value)
		} else {
			c.Raw([]byte("*2\r\n$6\r\nSTRLEN\r\n$" + strconv.Itoa(len(strconv.Itoa(i-1))+1) + "\r\nk" + strconv.Itoa(i-1) + "\r\n"))
		}
	}
	c.Command("LPUSH", "k0", "x")
	if err := c.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	for i := range commands {
		reply, err := c.Receive(t.Context())
		if err != nil || i%2 == 0 && string(reply.Str) != "OK" || i%2 == 1 && reply.Int != 100 {
			t.Fatalf("reply %d: %+v, error %v", i, reply, err)
		}
	}
	reply, err := c.Receive(t.Context())
	var wrong *ServerError
	if err != nil || !errors.As(reply.Err(), &wrong) || wrong.Code != "WRONGTYPE" || Retryable(wrong) {
		t.Errorf("reply %+v, error %v", reply, err)
	}
	if reply, err := c.Do(t.Context(), "GET", "k0"); err != nil || string(reply.Str) != value {
		t.Errorf("after an error reply: %+v, error %v", reply, err)
	}
}

func largeRaw(t *testing.T, _ *testkit.Redis, c *Conn) {
	value := strings.Repeat("v", keptBuffer)
	large := []byte("*3\r\n$3\r\nSET\r\n$5\r\nlarge\r\n$" + strconv.Itoa(len(value)) + "\r\n" + value + "\r\n")
	c.Command("MULTI")
	c.Raw(large)
	c.Command("STRLEN", "large")
	c.Raw(large)
	c.Command("APPEND", "large", "x")
	if cap(c.out) > 1<<20 {
		t.Errorf("%d bytes were copied", cap(c.out))
	}
	c.Command("EXEC")
	if err := c.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	for i := range 5 {
		if reply, err := c.Receive(t.Context()); err != nil || reply.Err() != nil {
			t.Fatalf("reply %d: %+v, error %v", i, reply, err)
		}
	}
	var got []int64
	reply, err := c.ReceiveEach(t.Context(), func(_ int, elem *Reply) { got = append(got, elem.Int) })
	if want := []int64{0, keptBuffer, 0, keptBuffer + 1}; err != nil || reply.Kind != '*' || !slices.Equal(got, want) {
		t.Errorf("EXEC answers %d, want %d; %+v, error %v", got, want, reply, err)
	}
	if _, err := c.Do(t.Context(), "PING"); err != nil {
		t.Error(err)
	}
}

func infoFields(t *testing.T, server *testkit.Redis, c *Conn) {
	info, err := Info(t.Context(), c, "server", "replication")
	if err != nil || info["process_id"] != strconv.Itoa(server.Pid()) || len(info["master_replid"]) != 40 {
		t.Errorf("%v, error %v", info, err)
	}
	if c.Addr() != server.Addr() {
		t.Errorf("address %s", c.Addr())
	}
}

func ctxEndsReceive(t *testing.T, server *testkit.Redis, c *Conn) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	failed := make(chan error, 1)
	go func() {
		_, err := c.Do(ctx, "BLPOP", "nothing", "0")
		failed <- err
	}()
	testkit.Eventually(t, 10*time.Second, func() error {
		clients, err := server.Client().Info(t.Context(), "clients").Result()
		if err == nil && !strings.Contains(clients, "blocked_clients:1") {
			err = errors.New("nobody waits for the list")
		}
		return err
	})
	cancel()
	err := <-failed
	var conn *ConnError
	if !errors.As(err, &conn) || !errors.Is(err, context.Canceled) {
		t.Fatalf("error %v", err)
	}
	// Its answer may still come: nobody must take it for that of the next command.
	if _, again := c.Do(t.Context(), "PING"); again == nil || again.Error() != err.Error() {
		t.Errorf("the connection goes on: %v", again)
	}
}

func TestACtxThatIsDoneTooLateLeavesNoDeadline(t *testing.T) {
	client, server := net.Pipe()
	defer client.Close()
	defer server.Close()
	c := newConn(client, "pipe")
	ctx, cancel := context.WithCancel(t.Context())
	stop := c.watch(ctx)
	cancel() // between the answer and the return of Receive
	stop()
	go func() { _, _ = server.Write([]byte("+PONG\r\n")) }()
	if reply, err := c.Receive(t.Context()); err != nil || string(reply.Str) != "PONG" {
		t.Errorf("reply %+v, error %v", reply, err)
	}
}

func TestADialledServerThatIsSilentIsGivenUp(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, err = Dial(ctx, Config{Addrs: []string{silent.Addr().String()}, Password: "geheim"})
	if !Retryable(err) || !errors.Is(err, context.DeadlineExceeded) || strings.Contains(err.Error(), "geheim") {
		t.Errorf("error %v", err)
	}
}

func TestAServerThatIsKilledCutsTheConnection(t *testing.T) {
	server := testkit.StartRedis(t)
	config := Config{Addrs: []string{server.Addr()}}
	c := dial(t, config)
	if _, err := c.Do(t.Context(), "PING"); err != nil {
		t.Fatal(err)
	}
	server.Kill()
	_, err := c.Do(t.Context(), "PING")
	var cut *ConnError
	if !errors.As(err, &cut) || !Retryable(err) || cut.Addr != server.Addr() || !strings.Contains(err.Error(), server.Addr()) {
		t.Errorf("error %v", err)
	}
	if _, err := Dial(t.Context(), config); !Retryable(err) {
		t.Errorf("dialling a server that is gone: %v", err)
	}
	other := testkit.StartRedis(t)
	c = dial(t, Config{Addrs: []string{server.Addr(), other.Addr()}})
	if c.Addr() != other.Addr() {
		t.Errorf("dialled %s, want the address that answers, %s", c.Addr(), other.Addr())
	}
}

func TestAuthentication(t *testing.T) {
	server := testkit.StartRedis(t)
	if err := errors.Join(server.Client().Do(t.Context(), "ACL", "SETUSER", "alice", "on", ">wonder", "~*", "+@all").Err(),
		server.Client().ConfigSet(t.Context(), "requirepass", "geheim").Err()); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name   string
		config Config
		want   string // of the error; empty: it works
	}{
		{"the default user's password", Config{Password: "geheim"}, ""},
		{"an ACL user", Config{Username: "alice", Password: "wonder"}, ""},
		{"user:password", Config{Password: "alice:wonder"}, ""},
		{"a wrong password", Config{Password: "falsch"}, "WRONGPASS"},
		{"a wrong password of an ACL user", Config{Username: "alice", Password: "falsch"}, `refuses user "alice" or the password`},
		{"an unknown user", Config{Password: "eve:falsch"}, `refuses user "eve"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.config.Addrs = []string{server.Addr()}
			c, err := Dial(t.Context(), tt.config)
			if tt.want != "" {
				if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), server.Addr()) || Retryable(err) || strings.Contains(err.Error(), "falsch") {
					t.Errorf("error %v, want %q", err, tt.want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if reply, err := c.Do(t.Context(), "PING"); err != nil || reply.Err() != nil {
				t.Errorf("PING: %+v, error %v", reply, err)
			}
			client := tt.config.Client()
			defer client.Close()
			if err := client.Ping(t.Context()).Err(); err != nil {
				t.Errorf("go-redis: %v", err)
			}
		})
	}
}

func TestWhatMayBeTriedAgain(t *testing.T) {
	for _, tt := range []struct {
		err  error
		want bool
	}{
		{nil, false},
		{errors.New("a bug"), false},
		{context.Canceled, false},
		{&ConnError{"h:1", "reading a reply", errors.New("cut")}, true},
		{fmt.Errorf("applying: %w", &ConnError{"h:1", "connecting", errors.New("refused")}), true},
		{&ServerError{Code: "LOADING"}, true},
		{&ServerError{Code: "BUSY"}, true},
		{&ServerError{Code: "MASTERDOWN"}, true},
		{&ServerError{Code: "NOMASTERLINK"}, true},
		{&ServerError{Code: "TRYAGAIN"}, true},
		{&ServerError{Code: "NOAUTH"}, false},
		{&ServerError{Code: "ERR"}, false},
	} {
		if got := Retryable(tt.err); got != tt.want {
			t.Errorf("%v: %v, want %v", tt.err, got, tt.want)
		}
	}
}

func TestTLS(t *testing.T) {
	files := writeCertificates(t)
	plain := testkit.StartRedis(t)
	tlsPort, err := freeAddr(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(tlsPort)
	for _, set := range [][2]string{{"tls-cert-file", files.cert}, {"tls-key-file", files.key}, {"tls-ca-cert-file", files.ca}, {"tls-auth-clients", "optional"}, {"tls-port", port}} {
		if err := plain.Client().ConfigSet(t.Context(), set[0], set[1]).Err(); err != nil {
			t.Fatalf("this redis-server has no TLS: %s: %v", set[0], err)
		}
	}
	addr := "localhost:" + port
	for _, tt := range []struct {
		name   string
		config Config
		want   string // of the error; empty: it works
	}{
		{"an authority that is trusted", Config{Addrs: []string{addr}, TLS: &TLSConfig{CAFile: files.ca}}, ""},
		{"rediss://", Config{Addrs: []string{"rediss://" + addr}, TLS: &TLSConfig{CAFile: files.ca}}, ""},
		{"a client's certificate", Config{Addrs: []string{addr}, TLS: &TLSConfig{CAFile: files.ca, CertFile: files.cert, KeyFile: files.key}}, ""},
		{"another server name", Config{Addrs: []string{addr}, TLS: &TLSConfig{CAFile: files.ca, ServerName: "redis.example"}}, "redis.example"},
		{"a server name that is in the certificate", Config{Addrs: []string{"127.0.0.1:" + port}, TLS: &TLSConfig{CAFile: files.ca, ServerName: "localhost"}}, ""},
		{"no verification", Config{Addrs: []string{addr}, TLS: &TLSConfig{InsecureSkipVerify: true}}, ""},
		{"an unknown authority", Config{Addrs: []string{"rediss://" + addr}}, "certificate"},
		{"a file that is not there", Config{Addrs: []string{addr}, TLS: &TLSConfig{CAFile: files.ca + ".no"}}, "reading tls.ca_file"},
		{"a file that is no certificate", Config{Addrs: []string{addr}, TLS: &TLSConfig{CAFile: files.key}}, "holds no PEM certificate"},
		{"a certificate without its key", Config{Addrs: []string{addr}, TLS: &TLSConfig{CertFile: files.cert}}, "reading tls.cert_file and tls.key_file"},
		{"TLS where none is spoken", Config{Addrs: []string{"rediss://" + plain.Addr()}}, "connecting"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, err := Dial(t.Context(), tt.config)
			if tt.want != "" {
				if err == nil || !strings.Contains(err.Error(), tt.want) {
					t.Errorf("error %v, want %q", err, tt.want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if reply, err := c.Do(t.Context(), "PING"); err != nil || string(reply.Str) != "PONG" {
				t.Errorf("PING: %+v, error %v", reply, err)
			}
			client := tt.config.Client()
			defer client.Close()
			if err := client.Ping(t.Context()).Err(); err != nil {
				t.Errorf("go-redis: %v", err)
			}
		})
	}
}

type certificates struct{ ca, cert, key string }

// writeCertificates makes an authority and a certificate of it for localhost.
func writeCertificates(t *testing.T) certificates {
	t.Helper()
	dir := t.TempDir()
	write := func(name, kind string, der []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	key := func() *ecdsa.PrivateKey {
		k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	caKey, serverKey := key(), key()
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	server := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "localhost"}, DNSNames: []string{"localhost"}, NotBefore: ca.NotBefore, NotAfter: ca.NotAfter,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	caDER, err := x509.CreateCertificate(rand.Reader, ca, ca, &caKey.PublicKey, caKey)
	if err != nil {
		t.Fatal(err)
	}
	serverDER, err := x509.CreateCertificate(rand.Reader, server, ca, &serverKey.PublicKey, caKey)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(serverKey)
	if err != nil {
		t.Fatal(err)
	}
	return certificates{write("ca.pem", "CERTIFICATE", caDER), write("server.pem", "CERTIFICATE", serverDER), write("server.key", "PRIVATE KEY", keyDER)}
}

func TestDatabasesAreReadFromInfo(t *testing.T) {
	got := Keyspace(map[string]string{"db10": "keys=3,expires=0,avg_ttl=0", "db0": "keys=12,expires=1,avg_ttl=9", "dbx": "keys=1", "db1": "size=1", "redis_version": "7.0"})
	if want := []Database{{Number: 0, Keys: 12}, {Number: 10, Keys: 3}}; !slices.Equal(got, want) {
		t.Errorf("read %v, want %v", got, want)
	}
}

func TestAServerThatIsSilentIsGivenUp(t *testing.T) {
	for name, do := range map[string]func(c *Conn, server net.Conn) error{
		"it takes nothing": func(c *Conn, _ net.Conn) error {
			c.Command("PING")
			return c.Flush(t.Context())
		},
		"it takes a part of much": func(c *Conn, server net.Conn) error {
			go func() { _, _ = io.CopyN(io.Discard, server, writePiece+1) }()
			c.Raw(make([]byte, keptBuffer+1))
			return c.Flush(t.Context())
		},
		"it answers nothing": func(c *Conn, server net.Conn) error {
			go func() { _, _ = io.CopyN(io.Discard, server, 14) }()
			_, err := c.Do(t.Context(), "PING")
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			client, server := net.Pipe()
			defer client.Close()
			defer server.Close()
			c := newConn(client, "pipe")
			if s := c.Silence(); s != 0 {
				t.Errorf("nothing is waited for since %v", s)
			}
			ended := make(chan error)
			go func() { ended <- do(c, server) }()
			for c.Silence() < 20*time.Millisecond {
				runtime.Gosched()
			}
			c.GiveUp()
			if err := <-ended; !errors.Is(err, ErrNoAnswer) || !Retryable(err) {
				t.Errorf("error %v", err)
			}
			if s := c.Silence(); s != 0 {
				t.Errorf("a connection that was given up waits since %v", s)
			}
		})
	}
}
