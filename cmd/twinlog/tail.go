package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kgo"

	"twinlog/internal/config"
	"twinlog/internal/kafka"
	"twinlog/schema"
)

// tailMemory bounds what is fetched ahead.
const tailMemory = 8 << 20

func newTailCommand() *cobra.Command {
	var path, direction string
	var t tail
	cmd := &cobra.Command{
		Use:   "tail -c FILE --direction a-to-b",
		Short: "Print a direction's events as JSON lines",
		Long: `Prints change events as they are committed, one JSON object a line, with the
Kafka offset in front. Bytes are strings where they are valid UTF-8, else
{"b64":"…"}. Without --from-beginning or --offset only new events are shown.`,
		Example: `  twinlog tail -c twinlog.yml --direction a-to-b
  twinlog tail -c twinlog.yml --direction a-to-b --from-beginning --max-messages 10
  twinlog tail -c twinlog.yml --direction b-to-a --offset 4711 | jq 'select(.op=="d")'`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := loadDirection(path, direction)
			if err != nil {
				return err
			}
			if t.fromBeginning && t.offset >= 0 {
				return usage(errors.New("--from-beginning and --offset exclude each other"))
			}
			t.out, t.topic = cmd.OutOrStdout(), c.Link+"."+direction
			return t.run(cmd.Context(), c)
		},
	}
	configFlag(cmd, &path)
	cmd.Flags().StringVar(&direction, "direction", "", "direction, as in a-to-b; required")
	cmd.Flags().BoolVar(&t.fromBeginning, "from-beginning", false, "begin with the oldest event")
	cmd.Flags().Int64Var(&t.offset, "offset", -1, "begin at this Kafka offset")
	cmd.Flags().Int64Var(&t.most, "max-messages", 0, "end after so many events (0: never)")
	return cmd
}

// loadDirection loads a configuration that has the direction.
func loadDirection(path, direction string) (*config.Config, error) {
	c, err := loadConfig(path)
	if err != nil {
		return nil, err
	}
	return c, checkDirection(c, direction)
}

// checkDirection refuses a name that is not a direction of the link.
func checkDirection(c *config.Config, name string) error {
	names := make([]string, 0, len(c.Directions))
	for _, d := range c.Directions {
		names = append(names, d.Name())
	}
	if slices.Contains(names, name) {
		return nil
	}
	return usage(fmt.Errorf("--direction %s: link %s has no such direction; it has %v", name, c.Link, names))
}

// tail prints one topic's events.
type tail struct {
	out           io.Writer
	topic         string
	fromBeginning bool
	offset        int64 // -1: not given
	most          int64
}

func (t *tail) run(ctx context.Context, c *config.Config) error {
	client, err := c.Kafka.Options()
	if err != nil {
		return usage(err)
	}
	decoder, err := newDecoder(c)
	if err != nil {
		return err
	}
	if err := t.locate(ctx, client); err != nil {
		return err
	}
	consumer, err := kafka.NewConsumer(ctx, kafka.ConsumerConfig{Client: client, Topic: t.topic, Offset: t.offset, FromStart: t.fromBeginning, MaxBytes: tailMemory})
	if err != nil {
		return err
	}
	defer consumer.Close()
	var printed int64
	var e schema.Event
	var line []byte
	for {
		records, err := consumer.Poll(ctx)
		if errors.Is(err, context.Canceled) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("reading %s: %w", t.topic, err)
		}
		for _, r := range records {
			if r.Attrs.IsControl() {
				continue
			}
			if err := decoder.Decode(ctx, r.Value, &e); err != nil {
				return fmt.Errorf("topic %s, offset %d: %w", t.topic, r.Offset, err)
			}
			line = strconv.AppendInt(append(line[:0], `{"offset":`...), r.Offset, 10)
			line = append(line, ',')
			brace := len(line)
			line = append(e.AppendJSON(line), '\n')
			line = append(line[:brace], line[brace+1:]...) // the event's own opening brace
			if _, err := t.out.Write(line); err != nil {
				return fmt.Errorf("printing: %w", err)
			}
			if printed++; printed == t.most {
				return nil
			}
		}
	}
}

// locate finds the topic, and its end unless a beginning was asked for.
func (t *tail) locate(ctx context.Context, client []kgo.Opt) error {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	_, found, err := kafka.DescribeTopic(ctx, client, t.topic)
	if err != nil {
		return err
	}
	if !found {
		return fmt.Errorf("topic %s does not exist yet: `twinlog run` makes it", t.topic)
	}
	if t.fromBeginning || t.offset >= 0 {
		return nil
	}
	end, err := kafka.ReadTail(ctx, client, t.topic, 0)
	if err != nil {
		return err
	}
	t.offset = end.End
	return nil
}

// newDecoder reads events with the schema registry where one is configured.
func newDecoder(c *config.Config) (*schema.Decoder, error) {
	if c.Registry.URL == "" {
		return schema.NewDecoder(nil), nil
	}
	registry, err := schema.NewRegistry(c.Registry)
	if err != nil {
		return nil, usage(err)
	}
	return schema.NewDecoder(registry), nil
}
