package admin

import "net/http"

type offsetsAnswer struct {
	Offsets []partitionOffset `json:"offsets"`
}

type partitionOffset struct {
	Partition any `json:"partition"` // sourcePartition or sinkPartition
	Offset    any `json:"offset"`    // sourceOffset or sinkOffset
}

type sourcePartition struct {
	Site string `json:"site"`
	Lane string `json:"lane"`
}

type sourceOffset struct {
	Replid     string `json:"replid"`
	ReplOffset int64  `json:"repl_offset"`
	Seq        int64  `json:"seq"`
}

type sinkPartition struct {
	Topic     string `json:"kafka_topic"`
	Partition int32  `json:"kafka_partition"`
}

type sinkOffset struct {
	Offset int64 `json:"kafka_offset"`
}

func (s *Server) offsets(w http.ResponseWriter, r *http.Request) {
	c, ok := s.named(w, r)
	if !ok {
		return
	}
	ctx, cancel := s.bounded(r.Context())
	defer cancel()
	got, err := s.worker.Offsets(ctx, c.name)
	if err != nil {
		s.writeWorkerError(w, "reading the offsets of "+c.name, err)
		return
	}
	answer := offsetsAnswer{Offsets: []partitionOffset{}}
	for _, o := range got.Source {
		answer.Offsets = append(answer.Offsets, partitionOffset{sourcePartition{o.Site, o.Lane}, sourceOffset{o.Replid, o.ReplOffset, o.Seq}})
	}
	for _, o := range got.Sink {
		answer.Offsets = append(answer.Offsets, partitionOffset{sinkPartition{o.Topic, o.Partition}, sinkOffset{o.Offset}})
	}
	s.writeJSON(w, http.StatusOK, answer)
}
