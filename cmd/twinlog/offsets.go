package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kgo"

	"twinlog/internal/config"
	"twinlog/internal/kafka"
	"twinlog/internal/redis"
	"twinlog/offsets"
	"twinlog/schema"
)

func newOffsetsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "offsets",
		Short: "Show how far each direction is",
		Args:  cobra.ArbitraryArgs,
		RunE:  listCommands,
	}
	var path, direction string
	var asJSON bool
	list := &cobra.Command{
		Use:   "list -c FILE [--direction a-to-b]",
		Short: "List offsets, marks and positions",
		Long: `Prints for each direction what kafka-consumer-groups prints of its group (the
mirror), and beside it the truth: the mark in the target Redis, the position
of the source in its Redis (of the newest event), and how old the oldest event
is that the target lacks. It asks Kafka and Redis, not the worker.`,
		Example: `  twinlog offsets list -c twinlog.yml
  twinlog offsets list -c twinlog.yml --direction a-to-b --json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := loadConfig(path)
			if err != nil {
				return err
			}
			if direction != "" {
				if err := checkDirection(c, direction); err != nil {
					return err
				}
			}
			rows, err := listOffsets(cmd.Context(), c, direction)
			if err != nil {
				return err
			}
			if asJSON {
				encoder := json.NewEncoder(cmd.OutOrStdout())
				encoder.SetIndent("", "  ")
				return encoder.Encode(rows)
			}
			return writeOffsets(cmd.OutOrStdout(), rows)
		},
	}
	configFlag(list, &path)
	list.Flags().StringVar(&direction, "direction", "", "only this direction, as in a-to-b")
	list.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	cmd.AddCommand(list)
	return cmd
}

// offsetRow is how far one direction is.
type offsetRow struct {
	Group         string            `json:"group"`
	Topic         string            `json:"topic"`
	Partition     int32             `json:"partition"`
	CurrentOffset *int64            `json:"current_offset"` // null: nothing committed
	LogEndOffset  int64             `json:"log_end_offset"`
	Lag           *int64            `json:"lag"`
	Mark          *offsets.Mark     `json:"mark"`     // null: none at the target
	Position      *offsets.Position `json:"position"` // null: no event yet
	LagSeconds    float64           `json:"lag_seconds"`
}

// askTimeout bounds what one direction may take.
const askTimeout = 15 * time.Second

func listOffsets(ctx context.Context, c *config.Config, only string) ([]offsetRow, error) {
	client, err := c.Kafka.Options()
	if err != nil {
		return nil, usage(err)
	}
	decoder, err := newDecoder(c)
	if err != nil {
		return nil, err
	}
	rows := []offsetRow{}
	for _, d := range c.Directions {
		name := d.Name()
		if only != "" && only != name {
			continue
		}
		row, err := askOffsets(ctx, c, client, decoder, name, d.To)
		if err != nil {
			return nil, fmt.Errorf("direction %s: %w", name, err)
		}
		rows = append(rows, row)
	}
	return rows, nil
}

func askOffsets(ctx context.Context, c *config.Config, client []kgo.Opt, decoder *schema.Decoder, direction, target string) (offsetRow, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	row := offsetRow{Group: "twinlog." + c.Link + "." + direction, Topic: c.Link + "." + direction}
	_, found, err := kafka.DescribeTopic(ctx, client, row.Topic)
	if err != nil {
		return row, err
	}
	if !found {
		return row, fmt.Errorf("topic %s does not exist yet: `twinlog run` makes it", row.Topic)
	}
	mirror, err := kafka.FetchMirror(ctx, client, row.Group, row.Topic, 0)
	if err != nil {
		return row, err
	}
	end, err := kafka.ReadTail(ctx, client, row.Topic, 0)
	if err != nil {
		return row, err
	}
	row.LogEndOffset = end.End
	if mirror.Offset >= 0 {
		lag := max(end.End-mirror.Offset, 0)
		row.CurrentOffset, row.Lag = &mirror.Offset, &lag
	}
	if row.Position, err = newestPosition(end); err != nil {
		return row, fmt.Errorf("topic %s: %w", row.Topic, err)
	}
	if row.Mark, err = readMark(ctx, c.Sites[target], offsets.MarkKey(c.Link, direction, "0")); err != nil {
		return row, fmt.Errorf("reading the mark at site %s: %w", target, err)
	}
	row.LagSeconds, err = lagSeconds(ctx, client, decoder, &row, end)
	return row, err
}

// newestPosition reads the position that the newest transaction carries.
func newestPosition(end kafka.Tail) (*offsets.Position, error) {
	for i := len(end.Records) - 1; i >= 0; i-- {
		for _, h := range end.Records[i].Headers {
			if h.Key == schema.HeaderPosition {
				p, err := offsets.ParsePosition(h.Value)
				return &p, err
			}
		}
	}
	return nil, nil
}

func readMark(ctx context.Context, site redis.Config, key string) (*offsets.Mark, error) {
	conn, err := redis.Dial(ctx, site)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	reply, err := conn.Do(ctx, "GET", key)
	if err == nil {
		err = reply.Err()
	}
	if err != nil {
		return nil, fmt.Errorf("GET %s: %w", key, err)
	}
	if reply.Null {
		return nil, nil
	}
	mark, err := offsets.ParseMark(string(reply.Str))
	return &mark, err
}

// lagSeconds is the age of the oldest event behind the mark. HEARTBEATs count
// for nothing: they move no mark.
func lagSeconds(ctx context.Context, client []kgo.Opt, decoder *schema.Decoder, row *offsetRow, end kafka.Tail) (float64, error) {
	at := end.Start
	if row.Mark != nil {
		at = max(row.Mark.Offset+1, end.Start)
	}
	if at >= end.End || len(end.Records) == 0 {
		return 0, nil
	}
	consumer, err := kafka.NewConsumer(ctx, kafka.ConsumerConfig{Client: client, Topic: row.Topic, Offset: at, MaxBytes: tailMemory})
	if err != nil {
		return 0, err
	}
	defer consumer.Close()
	for {
		records, err := consumer.Poll(ctx)
		if err != nil {
			return 0, fmt.Errorf("reading %s behind the mark: %w", row.Topic, err)
		}
		for _, r := range records {
			if !r.Attrs.IsControl() {
				var e schema.Event
				if err := decoder.Decode(ctx, r.Value, &e); err != nil {
					return 0, fmt.Errorf("topic %s, offset %d: %w", row.Topic, r.Offset, err)
				}
				if e.Op != schema.OpControl || e.Command != schema.Heartbeat {
					return max(time.Since(time.UnixMilli(e.TsMs)).Seconds(), 0), nil
				}
			}
			if r.Offset >= end.End-1 {
				return 0, nil
			}
		}
	}
}

func writeOffsets(out io.Writer, rows []offsetRow) error {
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "GROUP\tTOPIC\tPARTITION\tCURRENT-OFFSET\tLOG-END-OFFSET\tLAG\tMARK\tPOSITION\tLAG-SECONDS")
	for i := range rows {
		r := &rows[i]
		current, lag, mark, position := "-", "-", "-", "-"
		if r.CurrentOffset != nil {
			current, lag = strconv.FormatInt(*r.CurrentOffset, 10), strconv.FormatInt(*r.Lag, 10)
		}
		if r.Mark != nil {
			mark = fmt.Sprintf("seq %d, offset %d", r.Mark.Seq, r.Mark.Offset)
		}
		if r.Position != nil {
			position = fmt.Sprintf("%s:%d seq %d", r.Position.Replid, r.Position.ReplOffset, r.Position.Seq)
		}
		fmt.Fprintf(t, "%s\t%s\t%d\t%s\t%d\t%s\t%s\t%s\t%.1f\n", r.Group, r.Topic, r.Partition, current, r.LogEndOffset, lag, mark, position, r.LagSeconds)
	}
	return t.Flush()
}
