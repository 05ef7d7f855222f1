package schemas

import (
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// BodyKind tells which body a message has.
type BodyKind string

const (
	TextKind   BodyKind = "text"
	ImageKind  BodyKind = "image"
	FileKind   BodyKind = "file"
	OpaqueKind BodyKind = "opaque"
)

// TextBody is plain text, not empty.
type TextBody struct {
	Kind BodyKind `json:"kind" jsonschema:"enum=text"`
	Text string   `json:"text" jsonschema:"minLength=1"`
}

// ImageBody shows an uploaded image; width and height are in pixels.
type ImageBody struct {
	Kind   BodyKind `json:"kind" jsonschema:"enum=image"`
	File   ID       `json:"file"`
	Width  uint32   `json:"width" jsonschema:"minimum=1"`
	Height uint32   `json:"height" jsonschema:"minimum=1"`
	Text   string   `json:"text,omitzero"`
}

// FileBody offers an uploaded file.
type FileBody struct {
	Kind  BodyKind `json:"kind" jsonschema:"enum=file"`
	File  ID       `json:"file"`
	Name  string   `json:"name" jsonschema:"minLength=1"`
	Bytes uint64   `json:"bytes"`
	MIME  string   `json:"mime" jsonschema:"minLength=1"`
	Text  string   `json:"text,omitzero"`
}

// OpaqueBody is data that the server cannot read, for end-to-end encryption;
// Scheme tells the receiver how to.
type OpaqueBody struct {
	Kind   BodyKind `json:"kind" jsonschema:"enum=opaque"`
	Data   string   `json:"data" jsonschema:"minLength=1"`
	Scheme string   `json:"scheme" jsonschema:"minLength=1"`
}

// checkBody validates body and returns it compacted. Members beyond those of
// its kind are kept: clients may add their own.
func checkBody(body jsontext.Value) (jsontext.Value, *Error) {
	if len(body) == 0 {
		return nil, Errorf(Invalid, "body is absent: a message has one, like {\"kind\":\"text\",\"text\":\"hi\"}")
	}
	if err := body.Compact(); err != nil {
		return nil, Errorf(BadFrame, "body is not JSON: %v", err)
	}
	if len(body) > BodyBytesMax {
		return nil, Errorf(TooLarge, "body has %d bytes: at most %d are allowed", len(body), BodyBytesMax)
	}
	if body.Kind() != '{' {
		return nil, Errorf(Invalid, "body is not an object")
	}
	var head struct {
		Kind BodyKind `json:"kind"`
	}
	if err := json.Unmarshal(body, &head); err != nil {
		return nil, memberError(err)
	}
	switch head.Kind {
	case TextKind:
		var text TextBody
		if err := decodeMembers(body, &text); err != nil {
			return nil, err
		}
		if text.Text == "" {
			return nil, Errorf(Invalid, "body.text is empty")
		}
	case ImageKind:
		var image ImageBody
		if err := decodeMembers(body, &image); err != nil {
			return nil, err
		}
		if image.File.IsZero() || image.Width == 0 || image.Height == 0 {
			return nil, Errorf(Invalid, "an image body has file, width and height")
		}
	case FileKind:
		var file FileBody
		if err := decodeMembers(body, &file); err != nil {
			return nil, err
		}
		if file.File.IsZero() || file.Name == "" || file.MIME == "" {
			return nil, Errorf(Invalid, "a file body has file, name, bytes and mime")
		}
		if file.Bytes > SeqMax {
			return nil, Errorf(Invalid, "body.bytes is beyond 2^53")
		}
	case OpaqueKind:
		var opaque OpaqueBody
		if err := decodeMembers(body, &opaque); err != nil {
			return nil, err
		}
		if opaque.Data == "" || opaque.Scheme == "" {
			return nil, Errorf(Invalid, "an opaque body has data and scheme")
		}
	case "":
		// A member "Kind" in the wrong case lands here too: decodeMembers tells which.
		if err := decodeMembers(body, &head); err != nil {
			return nil, err
		}
		return nil, Errorf(Invalid, "body.kind is absent: it is text, image, file or opaque")
	default:
		return nil, Errorf(Invalid, "body.kind %q is unknown: it is text, image, file or opaque", clip(string(head.Kind)))
	}
	return body, nil
}
