package schemas

import (
	"bytes"
	stdjson "encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/invopop/jsonschema"
	validator "github.com/santhosh-tekuri/jsonschema/v6"
)

var update = flag.Bool("update", false, "write the JSON Schemas and the fixtures anew")

// schemaTypes names each JSON Schema and the type it is made from. Clients'
// frames get the members t and ref, which the decoder keeps outside of them.
func schemaTypes() map[string]any {
	types := map[string]any{
		"body-text":   TextBody{},
		"body-image":  ImageBody{},
		"body-file":   FileBody{},
		"body-opaque": OpaqueBody{},
		"event":       Event{},
	}
	maps.Copy(types, clientFrames())
	maps.Copy(types, serverFrames())
	return types
}

func clientFrames() map[string]any {
	return map[string]any{
		"client-hello":   Hello{},
		"client-renew":   Renew{},
		"client-ping":    struct{}{},
		"client-send":    Send{},
		"client-history": History{},
		"client-typing":  Typing{},

		"client-create":      Create{},
		"client-add":         ChangeMembers{},
		"client-remove":      ChangeMembers{},
		"client-leave":       Leave{},
		"client-role":        SetRole{},
		"client-rename":      Rename{},
		"client-members":     Members{},
		"client-chats":       Chats{},
		"client-mute":        Mute{},
		"client-pin":         SetChat{},
		"client-archive":     SetChat{},
		"client-block":       Block{},
		"client-profile":     Profiles{},
		"client-profile.set": SetProfile{},
		"client-delivered":   Mark{},
		"client-read":        Mark{},
		"client-receipts":    Receipts{},
		"client-presence":    Users{},
		"client-watch":       Users{},
		"client-unwatch":     Users{},
		"client-status":      SetStatus{},
	}
}

func serverFrames() map[string]any {
	return map[string]any{
		"server-welcome": Welcome{},
		"server-resumed": Resumed{},
		"server-resync":  Resync{},
		"server-renewed": Renewed{},
		"server-pong":    Pong{},
		"server-ack":     Ack{},
		"server-event":   LiveEvent{},
		"server-page":    Page{},
		"server-typing":  TypingFrame{},
		"server-done":    Done{},
		"server-error":   ErrorFrame{},

		"server-created":  GroupCreated{},
		"server-members":  MembersPage{},
		"server-chats":    ChatsPage{},
		"server-chat":     ChatFrame{},
		"server-profiles": ProfilesPage{},
		"server-receipt":  ReceiptFrame{},
		"server-receipts": ReceiptsPage{},
		"server-presence": PresenceFrame{},
	}
}

const (
	tokenPattern = `[A-Za-z0-9_-]{1,64}`
	chatPattern  = `^(direct\.` + tokenPattern + `\.` + tokenPattern + `|group\.` + tokenPattern + `)$`
	userPattern  = `^` + tokenPattern + `$`
)

// TestJSONSchemas fails where a file of json/ is not what the types say.
func TestJSONSchemas(t *testing.T) {
	want := map[string][]byte{"body.json": bodySchema(), "body-left.json": leftBodySchema()}
	for name, value := range schemaTypes() {
		want[name+".json"] = jsonSchema(t, name, value)
	}
	files, err := filepath.Glob("json/*.json")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if want[filepath.Base(file)] == nil {
			t.Errorf("%s belongs to no type: delete it", file)
		}
	}
	for name, data := range want {
		file := filepath.Join("json", name)
		if *update {
			if err := os.WriteFile(file, data, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if have, err := os.ReadFile(file); err != nil || !bytes.Equal(have, data) {
			t.Errorf("%s is stale (%v): run `go generate ./schemas` and commit it", file, err)
		}
	}
}

func jsonSchema(t *testing.T, name string, value any) []byte {
	t.Helper()
	root := reflect.TypeOf(value)
	reflector := jsonschema.Reflector{
		AllowAdditionalProperties: true, // later versions and clients add members
		Anonymous:                 true,
		DoNotReference:            true,
		ExpandedStruct:            true,
		Mapper: func(t reflect.Type) *jsonschema.Schema {
			if t == root {
				return nil
			}
			return mapType(t)
		},
	}
	if err := reflector.AddGoComments("parley/schemas", ".", jsonschema.WithFullComment()); err != nil {
		t.Fatal(err)
	}
	for key, comment := range reflector.CommentMap {
		reflector.CommentMap[key] = plainComment(comment)
	}
	schema := reflector.ReflectFromType(root)
	if frame, ok := strings.CutPrefix(name, "client-"); ok {
		addEnvelope(schema, frame)
	}
	constOfEnum(schema)
	if body, ok := schema.Properties.Get("body"); ok && name == "event" {
		*body = jsonschema.Schema{AnyOf: []*jsonschema.Schema{{Ref: "body.json"}, {Ref: "body-left.json"}}, Description: body.Description}
	}
	if name == "client-send" {
		schema.AllOf = sendRules()
	}
	schema.Title = name
	data, err := stdjson.MarshalIndent(schema, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	return append(data, '\n')
}

// mapType returns the schema of a type that says more than its Go kind does, or nil.
func mapType(t reflect.Type) *jsonschema.Schema {
	number := func(largest string) *jsonschema.Schema {
		return &jsonschema.Schema{Type: "integer", Minimum: "0", Maximum: stdjson.Number(largest)}
	}
	text := func(pattern string) *jsonschema.Schema {
		return &jsonschema.Schema{Type: "string", Pattern: pattern}
	}
	switch t {
	case reflect.TypeFor[User](), reflect.TypeFor[ID]():
		return text(userPattern)
	case reflect.TypeFor[Chat]():
		return text(chatPattern)
	case reflect.TypeFor[uint64](), reflect.TypeFor[int64](), reflect.TypeFor[int]():
		return number(fmt.Sprint(uint64(SeqMax)))
	case reflect.TypeFor[uint32]():
		return number("4294967295")
	case reflect.TypeFor[[]string](): // mentions
		return &jsonschema.Schema{Type: "array", Items: text(`^(\*|` + tokenPattern + `)$`)}
	case reflect.TypeFor[map[Chat]uint64]():
		chatsMax := uint64(ResumeChatsMax)
		return &jsonschema.Schema{
			Type:                 "object",
			PropertyNames:        text(chatPattern),
			AdditionalProperties: number(fmt.Sprint(uint64(SeqMax))),
			MaxProperties:        &chatsMax,
		}
	case reflect.TypeFor[Code]():
		schema := &jsonschema.Schema{Type: "string"}
		for _, code := range Codes() {
			schema.Enum = append(schema.Enum, string(code))
		}
		return schema
	case reflect.TypeFor[GroupChange]():
		return enumOf(Created, Renamed, Added, Removed, HasLeft, RoleChanged)
	case reflect.TypeFor[Role]():
		return enumOf(Owner, Admin, Member)
	case reflect.TypeFor[HistoryMode]():
		return enumOf(HistoryJoined, HistoryAll)
	case reflect.TypeFor[Event]():
		return &jsonschema.Schema{Ref: "event.json"}
	case reflect.TypeFor[jsontext.Value]():
		return &jsonschema.Schema{} // constOfEnum refers it by its member's name
	}
	return nil
}

func enumOf[T any](values ...T) *jsonschema.Schema {
	schema := &jsonschema.Schema{Type: "string"}
	for _, value := range values {
		schema.Enum = append(schema.Enum, value)
	}
	return schema
}

func bodySchema() []byte {
	return []byte(`{
  "$schema": "https://json-schema.org/draft/2020-12/schema",
  "anyOf": [
    {"$ref": "body-text.json"},
    {"$ref": "body-image.json"},
    {"$ref": "body-file.json"},
    {"$ref": "body-opaque.json"}
  ],
  "title": "body"
}
`)
}

// leftBodySchema is of what is left of a body: nothing where it was taken back,
// its kind and the beginning of its text in a list of chats.
func leftBodySchema() []byte {
	return []byte(`{
  "$schema": "https://json-schema.org/draft/2020-12/schema",
  "type": "object",
  "properties": {
    "kind": {"enum": ["text", "image", "file", "opaque"]},
    "text": {"type": "string"}
  },
  "additionalProperties": false,
  "title": "body-left",
  "description": "What is left of a body: nothing where it was taken back, its kind and the beginning of its text in a list of chats."
}
`)
}

// addEnvelope puts the members of every client frame before those of its own.
func addEnvelope(schema *jsonschema.Schema, frame string) {
	schema.Properties.Set("ref", mapType(reflect.TypeFor[uint64]()))
	schema.Properties.Set("t", &jsonschema.Schema{Type: "string", Const: frame})
	for _, name := range []string{"ref", "t"} {
		if err := schema.Properties.MoveToFront(name); err != nil {
			panic(err)
		}
	}
	schema.Required = append([]string{"t"}, schema.Required...)
}

// constOfEnum makes a const of each enum of one, and fills in what the raw
// members body and event refer to.
func constOfEnum(schema *jsonschema.Schema) {
	if len(schema.Enum) == 1 {
		schema.Const, schema.Enum = schema.Enum[0], nil
	}
	if schema.Items != nil {
		constOfEnum(schema.Items)
	}
	if schema.Properties == nil {
		return
	}
	for pair := schema.Properties.Oldest(); pair != nil; pair = pair.Next() {
		if (pair.Key == "body" || pair.Key == "event") && pair.Value.Ref == "" {
			pair.Value.Ref = pair.Key + ".json"
		}
		constOfEnum(pair.Value)
	}
}

// sendRules say which members a send of each type has to have.
func sendRules() []*jsonschema.Schema {
	rule := func(required []string, types ...any) *jsonschema.Schema {
		is := jsonschema.NewProperties()
		is.Set("type", &jsonschema.Schema{Enum: types})
		then := &jsonschema.Schema{Required: required}
		if slices.Contains(required, "target") {
			then.Properties = jsonschema.NewProperties()
			then.Properties.Set("target", &jsonschema.Schema{Minimum: "1"})
		}
		return &jsonschema.Schema{If: &jsonschema.Schema{Properties: is}, Then: then}
	}
	return []*jsonschema.Schema{
		rule([]string{"body"}, Message, Edit),
		rule([]string{"target"}, Edit, Delete, React, Pin),
		rule([]string{"emoji"}, React),
	}
}

var docLink = regexp.MustCompile(`\[([A-Za-z.]+)\]`)

// plainComment takes the line breaks and links out of a Go comment.
func plainComment(comment string) string {
	return docLink.ReplaceAllString(strings.ReplaceAll(comment, "\n", " "), "$1")
}

// compiledSchemas compiles every file of json/ once for all tests.
var compiledSchemas = sync.OnceValue(func() map[string]*validator.Schema {
	compiler := validator.NewCompiler()
	compiler.AssertFormat()
	schemas := map[string]*validator.Schema{}
	files, _ := filepath.Glob("json/*.json")
	for _, file := range files {
		schemas[strings.TrimSuffix(filepath.Base(file), ".json")] = compiler.MustCompile(file)
	}
	return schemas
})

// checkAgainst validates JSON against the schema called name.
func checkAgainst(name string, data []byte) error {
	schema := compiledSchemas()[name]
	if schema == nil {
		return fmt.Errorf("there is no schema %q", name)
	}
	value, err := validator.UnmarshalJSON(bytes.NewReader(data))
	if err != nil {
		return err
	}
	return schema.Validate(value)
}

// TestEveryTypeHasItsSchema keeps a new frame from being forgotten.
func TestEveryTypeHasItsSchema(t *testing.T) {
	t.Parallel()
	types := schemaTypes()
	for _, frame := range []Type{THello, TRenew, TPing, TSend, THistory, TTyping, TCreate, TAdd, TRemove, TLeave, TRole, TRename,
		TMembers, TChats, TMute, TPin, TArchive, TBlock, TProfile, TSetProfile,
		TDelivered, TRead, TReceipts, TPresence, TWatch, TUnwatch, TStatus} {
		if types["client-"+string(frame)] == nil {
			t.Errorf("client frame %s has no schema", frame)
		}
	}
	for _, frame := range []Type{TWelcome, TResumed, TResync, TRenewed, TPong, TAck, TEvent, TPage, TTyping, TDone, TError,
		TCreated, TMembers, TChats, TChat, TProfiles, TReceipt, TReceipts, TPresence} {
		if types["server-"+string(frame)] == nil {
			t.Errorf("server frame %s has no schema", frame)
		}
	}
}

// TestCodesIsComplete reads codes.go: a code that Codes forgets would be in no schema and no test.
func TestCodesIsComplete(t *testing.T) {
	t.Parallel()
	source, err := os.ReadFile("codes.go")
	if err != nil {
		t.Fatal(err)
	}
	var declared []Code
	for _, match := range regexp.MustCompile(`Code = "([a-z_]+)"|\bCode\s+= "([a-z_]+)"`).FindAllSubmatch(source, -1) {
		declared = append(declared, Code(string(match[1])+string(match[2])))
	}
	if !slices.Equal(declared, Codes()) {
		t.Errorf("declared are %v, Codes returns %v", declared, Codes())
	}
}
