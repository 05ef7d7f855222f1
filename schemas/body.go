package schemas

import "github.com/go-json-experiment/json/jsontext"

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
	Text string   `json:"text" jsonschema:"minLength=1,maxLength=102400"`
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

// checkBody validates body and returns a compact copy. Members beyond those of
// its kind are kept: clients may add their own.
func checkBody(body jsontext.Value) (jsontext.Value, *Error) {
	switch {
	case len(body) == 0:
		return nil, Errorf(Invalid, "body is absent: a message has one, like {\"kind\":\"text\",\"text\":\"hi\"}")
	case body.Kind() != '{':
		return nil, Errorf(Invalid, "body is not an object")
	}
	body = body.Clone()
	if err := body.Compact(); err != nil {
		return nil, Errorf(BadFrame, "body: %s", sentence(err))
	}
	if len(body) > BodyBytesMax {
		return nil, Errorf(TooLarge, "body has %d bytes: at most %d are allowed", len(body), BodyBytesMax)
	}
	if depth(body) > BodyDepthMax {
		return nil, Errorf(Invalid, "body nests deeper than %d levels", BodyDepthMax)
	}
	var space [frameMembersUsual]member
	members, err := readMembers(body, space[:0])
	if err != nil {
		return nil, Errorf(BadFrame, "body: %s", sentence(err))
	}
	if err := checkBodyMembers(members); err != nil {
		err.Message = "body: " + err.Message
		return nil, err
	}
	return body, nil
}

func checkBodyMembers(members []member) *Error {
	var kind BodyKind
	if err := decodeFields(members, []field{{"kind", &kind}}); err != nil {
		return err
	}
	switch kind {
	case TextKind:
		return checkText(members)
	case ImageKind:
		return checkImage(members)
	case FileKind:
		return checkFile(members)
	case OpaqueKind:
		return checkOpaque(members)
	case "":
		return Errorf(Invalid, "kind is absent: it is text, image, file or opaque")
	default:
		return Errorf(Invalid, "kind %q is unknown: it is text, image, file or opaque", clip(string(kind)))
	}
}

func checkText(members []member) *Error {
	var text TextBody
	err := decodeFields(members, []field{{"text", &text.Text}})
	if err == nil && text.Text == "" {
		return Errorf(Invalid, "text is empty")
	}
	return err
}

func checkImage(members []member) *Error {
	var image ImageBody
	err := decodeFields(members, []field{
		{"file", &image.File},
		{"width", &image.Width},
		{"height", &image.Height},
		{"text", &image.Text},
	})
	if err == nil && (image.File.IsZero() || image.Width == 0 || image.Height == 0) {
		return Errorf(Invalid, "an image has file, width and height")
	}
	return err
}

func checkFile(members []member) *Error {
	var file FileBody
	var size *uint64 // an empty file is a file; one without its size is not
	err := decodeFields(members, []field{
		{"file", &file.File},
		{"name", &file.Name},
		{"bytes", &size},
		{"mime", &file.MIME},
		{"text", &file.Text},
	})
	if err == nil && (file.File.IsZero() || file.Name == "" || size == nil || file.MIME == "") {
		return Errorf(Invalid, "a file has file, name, bytes and mime")
	}
	return err
}

func checkOpaque(members []member) *Error {
	var opaque OpaqueBody
	err := decodeFields(members, []field{{"data", &opaque.Data}, {"scheme", &opaque.Scheme}})
	if err == nil && (opaque.Data == "" || opaque.Scheme == "") {
		return Errorf(Invalid, "an opaque body has data and scheme")
	}
	return err
}
