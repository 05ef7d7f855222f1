package schemas

// Mark is a watermark: all of a chat up to Seq has been delivered to a device of its
// sender, or was read by its sender. It only rises; a lower one changes nothing.
type Mark struct {
	Chat Chat   `json:"chat"`
	Seq  uint64 `json:"seq" jsonschema:"minimum=1"`
}

// ReceiptFrame tells how far users of a chat have got. What is absent is as it was,
// and what was read was delivered.
type ReceiptFrame struct {
	T     Type          `json:"t" jsonschema:"enum=receipt"`
	Chat  Chat          `json:"chat"`
	Marks []ReceiptMark `json:"marks"`
}

// ReceiptMark is how far one user has got.
type ReceiptMark struct {
	User      User   `json:"user"`
	Delivered uint64 `json:"delivered,omitzero"`
	Read      uint64 `json:"read,omitzero"`
}

// Receipts asks how far the members of a chat have got.
type Receipts struct {
	Chat   Chat    `json:"chat"`
	Cursor string  `json:"cursor,omitzero"`
	Limit  *uint64 `json:"limit,omitzero" jsonschema:"minimum=1"` // over the most that a page holds it is clamped
}

// ReceiptsPage answers a receipts request: every member, by rising name.
type ReceiptsPage struct {
	T        Type      `json:"t" jsonschema:"enum=receipts"`
	Ref      *uint64   `json:"ref,omitzero"`
	Chat     Chat      `json:"chat"`
	Receipts []Receipt `json:"receipts"`
	Cursor   string    `json:"cursor,omitzero"` // asks for what follows; absent at the end
}

// Receipt is how far one member has got: 0 is nowhere, or not told. In a group it is at
// least the seq by which the member came in: nobody waits for it to read what was before.
type Receipt struct {
	User      User   `json:"user"`
	Delivered uint64 `json:"delivered"`
	Read      uint64 `json:"read"`
}
