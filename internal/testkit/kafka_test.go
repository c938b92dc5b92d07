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

func TestKafkaIsReachedOverItsDistance(t *testing.T) {
	k := StartDistantKafka(t)
	if !k.Real() {
		t.Log("the embedded broker is always near")
		return
	}
	client, err := kgo.NewClient(kgo.SeedBrokers(k.Distant()...))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if err := client.Ping(t.Context()); err != nil { // the connections are open
		t.Fatal(err)
	}
	adm := kadm.NewClient(client)
	if _, err := adm.CreateTopic(t.Context(), 1, 1, nil, "near"); err != nil {
		t.Fatal(err)
	}
	const oneWay = 150 * time.Millisecond
	k.SetDistance(oneWay)
	started := time.Now()
	if _, err := adm.CreateTopic(t.Context(), 1, 1, nil, "far"); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(started); took < 2*oneWay {
		t.Errorf("a request over %v each way took %v", oneWay, took)
	}
}
