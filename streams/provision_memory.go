package streams

import (
	"context"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"
)

// ProvisionMemory makes the streams and consumers anew that NATS keeps in memory
// alone, where they are missing: a server that is no part of a cluster has lost them
// when it comes back. What is there it leaves as it is.
func ProvisionMemory(ctx context.Context, js jetstream.JetStream, layout Layout) error {
	p := &provisioner{js: js}
	existing, err := listStreams(ctx, js)
	if err != nil {
		return fmt.Errorf("provision memory: %w", err)
	}
	for _, want := range memoryStreams(Settings{Replicas: layout.Replicas()}) {
		if existing[want.Name] != nil {
			continue
		}
		if err := p.ensureStream(ctx, want, nil); err != nil {
			return fmt.Errorf("provision memory: %w", err)
		}
	}
	for _, want := range memoryConsumers() {
		if err := p.ensureConsumer(ctx, want.stream, want.config); err != nil {
			return fmt.Errorf("provision memory: %w", err)
		}
	}
	return nil
}
