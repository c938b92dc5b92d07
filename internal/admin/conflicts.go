package admin

import (
	"bytes"
	"encoding/json"
	"fmt"
	"unicode/utf8"
)

// Rule names what settled a conflict: a letter of the documented rules, or
// what happened.
type Rule string

// The rules of a conflict.
const (
	RuleD        Rule = "D"         // a removal was left out: it had not seen what the site wrote
	RuleR        Rule = "R"         // a value was left out: what the site wrote since is on its way
	RuleH        Rule = "H"         // both sites changed the key: home publishes its value
	RuleNoEffect Rule = "no effect" // the command failed at the site
	RuleSwap     Rule = "SWAPDB"    // both sites worked in a swapped database: not exact
)

// Conflict is one decision about what both sites did to a key.
type Conflict struct {
	At       string `json:"at"`   // RFC 3339, UTC, with milliseconds
	Site     string `json:"site"` // where it was decided
	Rule     Rule   `json:"rule"`
	DB       int32  `json:"db"`
	Key      Key    `json:"key"`                 // null: no single key, as for FLUSHALL
	KeyBytes int    `json:"key_bytes,omitempty"` // length of a key that is too long to be shown whole
	Peer     string `json:"peer"`                // what the other site did
	Own      string `json:"own"`                 // what this site did
	Won      string `json:"won"`
}

// Key is a Redis key. Its JSON form is the one of events (`twinlog tail`): a
// string where it is valid UTF-8, otherwise {"b64":"…"}.
type Key []byte

// binaryKey is the JSON form of a key that is no text.
type binaryKey struct {
	Base64 []byte `json:"b64"`
}

// MarshalJSON implements json.Marshaler.
func (k Key) MarshalJSON() ([]byte, error) {
	switch {
	case k == nil:
		return []byte("null"), nil
	case !utf8.Valid(k):
		return json.Marshal(binaryKey{k})
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(string(k))
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), err
}

// UnmarshalJSON implements json.Unmarshaler.
func (k *Key) UnmarshalJSON(b []byte) error {
	var text *string
	if json.Unmarshal(b, &text) == nil {
		*k = nil
		if text != nil {
			*k = Key(*text)
		}
		return nil
	}
	var binary binaryKey
	if err := json.Unmarshal(b, &binary); err != nil {
		return fmt.Errorf("a key is a string or {\"b64\":…}, not %s: %w", b, err)
	}
	*k = binary.Base64
	return nil
}
