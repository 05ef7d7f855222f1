package auth

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/MicahParks/keyfunc/v3"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/golang-jwt/jwt/v5"
)

const (
	// jwksFetchWithin bounds one read of the JWKS URL.
	jwksFetchWithin = 5 * time.Second
	// jwksRefreshEvery is how long a key that its issuer withdrew may still be taken.
	jwksRefreshEvery = 15 * time.Minute
	// jwksUnknownEvery is the least time between two reads that unknown keys
	// cause: forged tokens cannot make this server flood the issuer's.
	jwksUnknownEvery = 10 * time.Second
	// jwksBytesMax bounds the answer, jwksKeysMax the keys in it; past either the read is an error.
	jwksBytesMax = 1 << 20
	jwksKeysMax  = 64
)

// jwks holds the keys that a JWKS URL names.
type jwks struct {
	url    string
	client *http.Client
	now    func() time.Time
	log    *slog.Logger

	keys atomic.Pointer[[]jwksKey]

	mu     sync.Mutex // held during a read: one at a time, the others wait for its keys
	readAt time.Time  // when the last read began; guarded by mu

	cancel context.CancelFunc
	ctx    context.Context // ends at close
	done   chan struct{}   // closed when refreshLoop has ended
}

type jwksKey struct {
	id     string // kid, may be empty
	alg    string // empty: any that suits the key
	public any
}

// unknownKeyError says that no key of the set can have signed a token.
type unknownKeyError struct{ id string }

func (e *unknownKeyError) Error() string {
	if e.id == "" {
		return "the token names no key, and none of the known ones suits it"
	}
	return fmt.Sprintf("the token is signed with the key %.64q, which is not known here", e.id)
}

// openJWKS reads the keys once and starts to refresh them.
func openJWKS(ctx context.Context, cfg Config) (*jwks, error) {
	k := &jwks{url: cfg.JWKSURL, now: cfg.Now, log: cfg.Log, done: make(chan struct{})}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.DisableKeepAlives = true // minutes lie between reads, and nothing is left to close
	k.client = &http.Client{Transport: transport}
	k.mu.Lock()
	err := k.readLocked(ctx)
	k.mu.Unlock()
	if err != nil {
		return nil, err
	}
	k.ctx, k.cancel = context.WithCancel(context.Background())
	go k.refreshLoop()
	return k, nil
}

func (k *jwks) close() {
	k.cancel()
	<-k.done
}

func (k *jwks) refreshLoop() {
	defer close(k.done)
	ticker := time.NewTicker(jwksRefreshEvery)
	defer ticker.Stop()
	for {
		select {
		case <-k.ctx.Done():
			return
		case <-ticker.C:
		}
		k.mu.Lock()
		err := k.readLocked(k.ctx)
		k.mu.Unlock()
		if err != nil && k.ctx.Err() == nil {
			k.log.Warn("keys of tokens not refreshed: the old ones stay", "err", err)
		}
	}
}

// find returns the keys that may have signed token. For an unknown one it reads
// the set again, unless that was done a moment ago.
func (k *jwks) find(token *jwt.Token) (jwt.VerificationKeySet, error) {
	id, _ := token.Header["kid"].(string)
	alg := token.Method.Alg()
	if set := k.match(id, alg); len(set.Keys) > 0 {
		return set, nil
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.now().Sub(k.readAt) >= jwksUnknownEvery {
		if err := k.readLocked(k.ctx); err != nil {
			k.log.Warn("keys of tokens not read for an unknown key", "kid", id, "err", err)
		}
	}
	if set := k.match(id, alg); len(set.Keys) > 0 {
		return set, nil
	}
	return jwt.VerificationKeySet{}, &unknownKeyError{id}
}

// match returns the key named id, or all keys for an empty id.
func (k *jwks) match(id, alg string) (set jwt.VerificationKeySet) {
	for _, key := range *k.keys.Load() {
		if (id == "" || key.id == id) && (key.alg == "" || key.alg == alg) {
			set.Keys = append(set.Keys, key.public)
		}
	}
	return set
}

// readLocked replaces the keys by what the URL answers; on an error they stay.
func (k *jwks) readLocked(ctx context.Context) error {
	k.readAt = k.now()
	ctx, cancel := context.WithTimeout(ctx, jwksFetchWithin)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, k.url, nil)
	if err != nil {
		return fmt.Errorf("read JWKS %s: %w", k.url, err)
	}
	resp, err := k.client.Do(req)
	if err != nil {
		return fmt.Errorf("read JWKS: %w", err) // names the URL itself
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("read JWKS %s: it answers %s", k.url, resp.Status)
	}
	data, err := io.ReadAll(io.LimitReader(resp.Body, jwksBytesMax+1))
	if err != nil {
		return fmt.Errorf("read JWKS %s: %w", k.url, err)
	}
	if len(data) > jwksBytesMax {
		return fmt.Errorf("read JWKS %s: it has more than %d bytes", k.url, jwksBytesMax)
	}
	keys, err := parseJWKS(data)
	if err != nil {
		return fmt.Errorf("read JWKS %s: %w", k.url, err)
	}
	k.keys.Store(&keys)
	return nil
}

// parseJWKS returns the keys that can verify a signature. Others, and those of
// kinds that this version does not know, are passed over: an issuer may publish
// them for somebody else.
func parseJWKS(data []byte) ([]jwksKey, error) {
	var set struct {
		Keys []jsontext.Value `json:"keys"`
	}
	if err := json.Unmarshal(data, &set); err != nil {
		return nil, fmt.Errorf("decode key set: %w", err)
	}
	if len(set.Keys) > jwksKeysMax {
		return nil, fmt.Errorf("decode key set: it has %d keys: at most %d are allowed", len(set.Keys), jwksKeysMax)
	}
	var keys []jwksKey
	for _, raw := range set.Keys {
		var head struct {
			ID   string `json:"kid"`
			Alg  string `json:"alg"`
			Type string `json:"kty"`
			Use  string `json:"use"`
		}
		if json.Unmarshal(raw, &head) != nil || head.Use == "enc" || head.Type == "oct" {
			continue
		}
		parsed, err := keyfunc.NewJWKJSON([]byte(raw))
		if err != nil {
			continue
		}
		public, err := parsed.VerificationKeySet(context.Background())
		if err != nil || len(public.Keys) != 1 {
			continue
		}
		keys = append(keys, jwksKey{head.ID, head.Alg, public.Keys[0]})
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("decode key set: none of its %d keys can verify a token", len(set.Keys))
	}
	return keys, nil
}
