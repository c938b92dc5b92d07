package precheck

import (
	"context"
	"errors"
	"math"

	"github.com/twmb/franz-go/pkg/sr"

	"twinlog/schema"
)

// registry checks the schema registry, if there is one.
type registry struct {
	sheet
	cfg schema.RegistryConfig
}

// noSuchSchema is a registry's own answer to an id that it does not have.
const noSuchSchema = 40403

// check asks for a schema that no registry has: the answer shows that this is
// a registry and that it takes user and password, and nothing is written.
func (r *registry) check(ctx context.Context) {
	if r.cfg == (schema.RegistryConfig{}) {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, timeLimit)
	defer cancel()
	client, err := schema.NewRegistry(r.cfg)
	if err != nil {
		r.error("schema-registry", err.Error(), "correct the section schema_registry of the configuration")
		return
	}
	defer client.Close()
	_, err = client.Schema(ctx, math.MaxInt32)
	var answer *sr.ResponseError
	if err != nil && (!errors.As(err, &answer) || answer.ErrorCode != noSuchSchema) {
		r.noAnswer("schema-registry", err, err.Error(), "correct the section schema_registry of the configuration, or start the registry",
			func(err error) bool { return errors.Is(err, schema.ErrRegistryUnavailable) })
		return
	}
	r.ok("schema-registry", "answers at "+r.cfg.URL)
}
