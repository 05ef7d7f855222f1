package cmd

import (
	"fmt"
	"slices"
	"strings"

	"parley/streams"
)

// shardsFlag limits a command to some shards.
type shardsFlag struct {
	Shard []string `help:"Only this shard, as its stream names it: 3 of CHAT_3. May be given again."`
}

func (f shardsFlag) of(layout streams.Layout) ([]streams.Shard, error) {
	all := layout.All()
	if len(f.Shard) == 0 {
		return all, nil
	}
	var shards []streams.Shard
	for _, token := range f.Shard {
		i := slices.IndexFunc(all, func(s streams.Shard) bool { return s.Token == token })
		if i < 0 {
			return nil, fmt.Errorf("--shard %s: there are the shards %s", token, tokens(all))
		}
		if !slices.Contains(shards, all[i]) {
			shards = append(shards, all[i])
		}
	}
	return shards, nil
}

func tokens(shards []streams.Shard) string {
	all := make([]string, len(shards))
	for i, s := range shards {
		all[i] = s.Token
	}
	return strings.Join(all, ", ")
}
