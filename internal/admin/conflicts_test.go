package admin

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestKeysAreWrittenAsInEvents(t *testing.T) {
	tests := []struct {
		name string
		key  Key
		want string
	}{
		{"text is a string", Key("cart:1"), `"cart:1"`},
		{"text of any language is a string", Key("café\u2028"), `"café\u2028"`},
		{"markup is left as it is", Key("<a&b>"), `"<a&b>"`},
		{"control characters are escaped", Key("a\n\x00\x1b"), `"a\n\u0000\u001b"`},
		{"bytes that are no text are in base64", Key("text\xff"), `{"b64":"dGV4dP8="}`},
		{"the empty key is one", Key(""), `""`},
		{"no key is null", nil, `null`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, err := test.key.MarshalJSON()
			if err != nil || string(got) != test.want {
				t.Fatalf("%s, %v; want %s", got, err, test.want)
			}
			var back Key
			if err := json.Unmarshal(got, &back); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.key, back); diff != "" {
				t.Errorf("read back (-written +read):\n%s", diff)
			}
		})
	}
}

func TestWhatIsNoKeyIsRefused(t *testing.T) {
	for _, text := range []string{`7`, `[]`, `{"b64":7}`, `{"b64":"%"}`} {
		var k Key
		if err := json.Unmarshal([]byte(text), &k); err == nil {
			t.Errorf("%s is read as the key %q", text, k)
		}
	}
}
