package schemas

import "time"

// Status says whether a user can be reached.
type Status string

const (
	Online  Status = "online"
	Away    Status = "away"    // connected, and nothing came from it for [AwayAfter], or it says so
	Offline Status = "offline" // and who is unknown
	// Invisible is what a user can choose: it looks offline to others.
	Invisible Status = "invisible"
)

// Users asks whether users can be reached; to be told of changes too; or not any more.
type Users struct {
	Users []User `json:"users" jsonschema:"minItems=1,maxItems=500"`
}

// SetStatus says how its sender is shown to others, in all its sessions and later ones.
type SetStatus struct {
	Status Status `json:"status" jsonschema:"enum=online,enum=away,enum=invisible"`
}

// Presence is whether a user can be reached.
type Presence struct {
	Status   Status    `json:"status" jsonschema:"enum=online,enum=away,enum=offline"`
	LastSeen time.Time `json:"lastSeen,omitzero"` // of who is offline, where it is known
}

// PresenceFrame answers a presence or a watch request, and tells of a change.
type PresenceFrame struct {
	T     Type              `json:"t" jsonschema:"enum=presence"`
	Ref   *uint64           `json:"ref,omitzero"`
	Users map[User]Presence `json:"users"`
}
