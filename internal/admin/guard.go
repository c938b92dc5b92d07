package admin

import (
	"net"
	"net/http"
	"strings"
)

// guard keeps pages of other sites, opened in an operator's browser, from
// steering the worker. Programs that are not browsers pass.
func (s *Server) guard(next http.Handler) http.Handler {
	crossOrigin := http.NewCrossOriginProtection()
	crossOrigin.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		s.writeError(w, http.StatusForbidden, "refused: the request comes from a page of another site")
	}))
	return crossOrigin.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if rebound(r) {
			s.writeError(w, http.StatusForbidden, "refused: a browser asks for this machine by the name "+r.Host+
				", as in DNS rebinding; open the console at http://"+localAddr(r)+"/, or let the proxy in front send that as Host")
			return
		}
		next.ServeHTTP(w, r)
	}))
}

// rebound tells whether a page may have had its own name resolved to this
// machine, so that its requests here look like requests to itself. Browsers
// send Origin with everything that changes something. Only a loopback address
// is out of that page's reach otherwise; who listens elsewhere has a network
// that decides who may connect, and names that only the operator knows.
func rebound(r *http.Request) bool {
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions:
		return false
	}
	if r.Header.Get("Origin") == "" {
		return false
	}
	local, _, err := net.SplitHostPort(localAddr(r))
	if ip := net.ParseIP(local); err != nil || ip == nil || !ip.IsLoopback() {
		return false
	}
	return !namesLoopback(r.Host)
}

// localAddr is the address at which r's connection came in.
func localAddr(r *http.Request) string {
	addr, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	if !ok {
		return ""
	}
	return addr.String()
}

// namesLoopback tells whether host, with or without port, can mean nothing
// but an address: an IP, or localhost.
func namesLoopback(host string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return true
	}
	return net.ParseIP(strings.Trim(host, "[]")) != nil
}
