package testkit

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// canonical turns the reply that holds a value into parts that are equal
// exactly if the values are: the order that means nothing is sorted away.
func canonical(kind string, reply any) ([]string, error) {
	switch kind {
	case "none":
		return nil, nil
	case "list":
		return texts(reply)
	case "set", "vectorset":
		parts, err := texts(reply)
		slices.Sort(parts)
		return parts, err
	case "hash":
		parts, err := joined(reply, " = ")
		slices.Sort(parts)
		return parts, err
	case "zset":
		return scores(reply) // in order already
	case "stream":
		return entries(reply)
	}
	text, ok := reply.(string)
	if !ok {
		return nil, fmt.Errorf("unexpected reply %T", reply)
	}
	return []string{withoutCache(text)}, nil
}

// withoutCache blanks the cached cardinality of a HyperLogLog: PFCOUNT writes
// it wherever it runs.
func withoutCache(s string) string {
	const cached, end = 8, 16
	if strings.HasPrefix(s, "HYLL") && len(s) >= end {
		return s[:cached] + "\x00\x00\x00\x00\x00\x00\x00\x80" + s[end:]
	}
	return s
}

// texts returns an array of bulk strings.
func texts(reply any) ([]string, error) {
	elems, ok := reply.([]any)
	if !ok {
		return nil, fmt.Errorf("unexpected reply %T", reply)
	}
	out := make([]string, len(elems))
	for i, e := range elems {
		if out[i], ok = e.(string); !ok {
			return nil, fmt.Errorf("unexpected element %T", e)
		}
	}
	return out, nil
}

// scores joins members and scores, which versions print in different ways: the
// shortest text that is the same number stands for it.
func scores(reply any) ([]string, error) {
	all, err := texts(reply)
	if err != nil {
		return nil, err
	}
	pairs := make([]any, len(all))
	for i, text := range all {
		if pairs[i] = text; i%2 == 1 {
			score, err := strconv.ParseFloat(text, 64)
			if err != nil {
				return nil, fmt.Errorf("unexpected score: %w", err)
			}
			pairs[i] = strconv.FormatFloat(score, 'g', -1, 64)
		}
	}
	return joined(pairs, " at ")
}

// joined joins each two neighbours of an array.
func joined(reply any, with string) ([]string, error) {
	all, err := texts(reply)
	if err != nil {
		return nil, err
	}
	out := make([]string, 0, len(all)/2)
	for i := 0; i+1 < len(all); i += 2 {
		out = append(out, strconv.Quote(all[i])+with+strconv.Quote(all[i+1]))
	}
	return out, nil
}

// entries returns the entries of a stream: id and fields, order and
// duplicates kept.
func entries(reply any) ([]string, error) {
	elems, ok := reply.([]any)
	if !ok {
		return nil, fmt.Errorf("unexpected reply %T", reply)
	}
	out := make([]string, 0, len(elems))
	for _, e := range elems {
		entry, ok := e.([]any)
		if !ok || len(entry) != 2 {
			return nil, fmt.Errorf("unexpected entry %v", e)
		}
		fields, err := texts(entry[1])
		if err != nil {
			return nil, err
		}
		out = append(out, fmt.Sprintf("entry %v %q", entry[0], fields))
	}
	return out, nil
}

// streamMeta returns what a stream has besides its entries. Left out is what
// no server replicates: when a consumer was last seen, how the data is laid out.
func (s *side) streamMeta(ctx context.Context, key string, c *comparison) ([]string, error) {
	reply, err := s.conn.Do(ctx, "XINFO", "STREAM", key, "FULL", "COUNT", 0).Result()
	if err != nil {
		return nil, fmt.Errorf("describing the stream: %w", err)
	}
	stream, err := pairs(reply)
	if err != nil {
		return nil, err
	}
	out := []string{fmt.Sprintf("last id %v", stream["last-generated-id"])}
	if c.counters {
		out = append(out, fmt.Sprintf("max deleted %v, entries added %v", stream["max-deleted-entry-id"], stream["entries-added"]))
	}
	groups, _ := stream["groups"].([]any)
	for _, g := range groups {
		group, err := pairs(g)
		if err != nil {
			return nil, err
		}
		line := fmt.Sprintf("group %v: last delivered %v", group["name"], group["last-delivered-id"])
		if c.entriesRead {
			line += fmt.Sprintf(", entries read %v", group["entries-read"])
		}
		out = append(out, line)
		pending, err := pending(fmt.Sprint(group["name"]), group, c)
		if err != nil {
			return nil, err
		}
		out = append(out, pending...)
	}
	return out, nil
}

// pending returns what a group has delivered and not seen acknowledged, and
// its consumers.
func pending(name string, group map[string]any, c *comparison) ([]string, error) {
	var out []string
	delivered, _ := group["pending"].([]any)
	for _, p := range delivered { // id, consumer, delivered at, deliveries
		out = append(out, fmt.Sprintf("group %s: pending %v", name, p))
	}
	consumers, _ := group["consumers"].([]any)
	for _, e := range consumers {
		consumer, err := pairs(e)
		if err != nil {
			return nil, fmt.Errorf("consumers of group %s: %w", name, err)
		}
		count := fmt.Sprint(consumer["pel-count"])
		if count == "0" && c.IgnoreIdleConsumers {
			continue
		}
		out = append(out, fmt.Sprintf("group %s: consumer %v with %s pending", name, consumer["name"], count))
	}
	return out, nil
}

// pairs turns an array of names and values into a map.
func pairs(reply any) (map[string]any, error) {
	elems, ok := reply.([]any)
	if !ok || len(elems)%2 != 0 {
		return nil, fmt.Errorf("unexpected reply %v", reply)
	}
	m := make(map[string]any, len(elems)/2)
	for i := 0; i < len(elems); i += 2 {
		m[fmt.Sprint(elems[i])] = elems[i+1]
	}
	return m, nil
}
