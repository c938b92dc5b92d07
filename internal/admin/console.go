package admin

import (
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"net/http"
	"strings"
)

// consolePage is the whole console: it asks /status each second and loads
// nothing else.
//
//go:embed console.html
var consolePage []byte

// consolePolicy lets the page run its own script and style, ask this listener,
// and nothing more; no other page may frame it to borrow its buttons.
var consolePolicy = "default-src 'none'; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'" +
	"; script-src '" + hashOf("script") + "'; style-src '" + hashOf("style") + "'"

// hashOf names the content of the page's only element tag as a
// Content-Security-Policy does.
func hashOf(tag string) string {
	_, rest, _ := strings.Cut(string(consolePage), "<"+tag+">")
	content, _, _ := strings.Cut(rest, "</"+tag+">")
	sum := sha256.Sum256([]byte(content))
	return "sha256-" + base64.StdEncoding.EncodeToString(sum[:])
}

func (s *Server) console(w http.ResponseWriter, _ *http.Request) {
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", consolePolicy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cache-Control", "no-store")
	s.write(w, consolePage)
}
