package testkit

import (
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

func TestKafkaKeepsItsTopicsOverAKill(t *testing.T) {
	k := StartKafka(t)
	if !k.Real() {
		t.Log("nothing to kill: the embedded broker")
		return
	}
	client, err := kgo.NewClient(kgo.SeedBrokers(k.Brokers()...))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	adm := kadm.NewClient(client)
	if _, err := adm.CreateTopic(t.Context(), 1, 1, nil, "kept"); err != nil {
		t.Fatal(err)
	}
	k.Kill()
	k.Restart()
	Eventually(t, 10*time.Second, func() error {
		topics, err := adm.ListTopics(t.Context(), "kept")
		if err == nil {
			err = topics.Error()
		}
		return err
	})
}
