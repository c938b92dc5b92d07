package redis

import (
	"context"
	"errors"
	"fmt"
)

// Scan visits the keys of the selected database that match a pattern, some
// perhaps twice. It ends with the first error of visit.
func Scan(ctx context.Context, c *Conn, match string, visit func(key []byte) error) error {
	for cursor := "0"; ; {
		reply, err := c.Do(ctx, "SCAN", cursor, "MATCH", match, "COUNT", "1000")
		if err := errors.Join(err, reply.Err()); err != nil {
			return fmt.Errorf("scanning %s for keys like %s: %w", c.Addr(), match, err)
		}
		if len(reply.Elems) != 2 {
			return fmt.Errorf("%s answers SCAN with %d elements", c.Addr(), len(reply.Elems))
		}
		for _, key := range reply.Elems[1].Elems {
			if err := visit(key.Str); err != nil {
				return err
			}
		}
		if cursor = string(reply.Elems[0].Str); cursor == "0" {
			return nil
		}
	}
}
