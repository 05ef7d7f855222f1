package bench

import (
	"context"
	"fmt"
)

// replicas measures the log alone with one replica on one node and with three on
// three nodes, which commit in groups, with one chat stream and with as many as usual.
// Every node syncs what it acknowledges.
func (w storageWorkloads) replicas(ctx context.Context) error {
	for _, streams := range []struct {
		name  string
		count int
	}{{"one stream", 1}, {"8 streams", 8}} {
		var one *Result
		for _, nodes := range []int{1, 3} {
			var result Result
			err := w.withServer(ctx, StartOptions{NATSNodes: nodes, Shards: streams.count}, func() (err error) {
				result, err = messageWorkloads(w).measureCeiling(ctx, replicasWorkload)
				return err
			})
			if err != nil {
				return fmt.Errorf("%s, %d nodes: %w", streams.name, nodes, err)
			}
			result.Case = fmt.Sprintf("%s, R%d", streams.name, nodes)
			if one != nil {
				result.compare(one, func(one *Result) float64 { return result.Rate / one.Rate })
				result.RatioOf = "R1"
			}
			w.add(result)
			one = &result
		}
	}
	return nil
}
