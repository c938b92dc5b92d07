package testkit

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// kafkaVersion is the Apache Kafka that tests run.
const kafkaVersion = "4.3.1"

const kafkaPOM = `<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>
  <groupId>twinlog.test</groupId><artifactId>kafka-runtime</artifactId><version>1</version><packaging>pom</packaging>
  <dependencies>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>` + kafkaVersion + `</version></dependency>
    <dependency><groupId>org.slf4j</groupId><artifactId>slf4j-simple</artifactId><version>1.7.36</version></dependency>
  </dependencies></project>
`

// ResolveKafka returns the directory that holds Kafka's jars. The first call
// on a machine gets them with Maven into the user's cache; test binaries that
// come at the same time wait for one another.
func ResolveKafka(ctx context.Context) (lib string, err error) {
	for _, tool := range []string{"java", "mvn"} {
		if _, err := exec.LookPath(tool); err != nil {
			return "", fmt.Errorf("real Apache Kafka needs Java 17 and Maven (apt-get install -y default-jre-headless maven): %w", err)
		}
	}
	return cached("kafka-"+kafkaVersion, "lib", func(dir, lib string) error {
		pom := filepath.Join(dir, "pom.xml")
		if err := os.WriteFile(pom, []byte(kafkaPOM), 0o600); err != nil {
			return fmt.Errorf("writing the list of Kafka's jars: %w", err)
		}
		return runTool(ctx, dir, "mvn", "-q", "-B", "-f", pom, "dependency:copy-dependencies", "-DincludeScope=runtime", "-DoutputDirectory="+lib)
	})
}
