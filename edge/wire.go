package edge

import (
	"encoding/binary"
	"strconv"
	"time"

	"github.com/go-json-experiment/json"

	"parley/schemas"
	"parley/streams"
)

// WebSocket opcodes of the frames that an edge writes.
const (
	opText  = 0x1
	opClose = 0x8
	opPing  = 0x9
	opPong  = 0xA
	finBit  = 0x80
)

// headerBytesMax is the longest header of an unmasked WebSocket frame.
const headerBytesMax = 10

// wireFrame is a whole WebSocket frame as it goes out, header included. It is
// shared between sessions and never changed once made.
type wireFrame []byte

// appendHeader appends the header of an unmasked, unfragmented frame.
func appendHeader(b []byte, opcode byte, payloadBytes int) []byte {
	b = append(b, finBit|opcode)
	switch {
	case payloadBytes < 126:
		return append(b, byte(payloadBytes))
	case payloadBytes <= 0xFFFF:
		return binary.BigEndian.AppendUint16(append(b, 126), uint16(payloadBytes))
	default:
		return binary.BigEndian.AppendUint64(append(b, 127), uint64(payloadBytes))
	}
}

// textFrame builds a text frame around what fill appends. The room for the
// header is left in front and what it does not need is cut off.
func textFrame(sizeHint int, fill func([]byte) []byte) wireFrame {
	buf := fill(make([]byte, headerBytesMax, headerBytesMax+sizeHint))
	var header [headerBytesMax]byte
	h := appendHeader(header[:0], opText, len(buf)-headerBytesMax)
	start := headerBytesMax - len(h)
	copy(buf[start:], h)
	return buf[start:]
}

// jsonFrame encodes one of the frame types of package schemas.
func jsonFrame(frame any) wireFrame {
	payload, err := json.Marshal(frame)
	if err != nil {
		// The types are ours and hold nothing that JSON cannot say.
		panic("encode frame: " + err.Error())
	}
	return append(appendHeader(make([]byte, 0, headerBytesMax+len(payload)), opText, len(payload)), payload...)
}

// eventFrame splices an event as it is stored into a live frame.
func eventFrame(chat schemas.Chat, stored streams.Stored, event []byte) wireFrame {
	return textFrame(len(event)+192, func(b []byte) []byte {
		b = append(b, `{"t":"event","chat":"`...)
		b = append(b, chat.String()...)
		b = append(b, `","seq":`...)
		b = strconv.AppendUint(b, stored.Seq, 10)
		b = append(b, `,"prev":`...)
		b = strconv.AppendUint(b, stored.Prev, 10)
		b = append(b, `,"time":"`...)
		b = append(b, stored.Time...)
		b = append(b, `","event":`...)
		b = append(b, event...)
		return append(b, '}')
	})
}

// backfilledFrame is the [eventFrame] of an event that was read from the log.
func backfilledFrame(chat schemas.Chat, ev *schemas.StoredEvent) wireFrame {
	return eventFrame(chat, streams.Stored{Seq: ev.Seq, Prev: ev.Prev, Time: ev.Time.UTC().Format(time.RFC3339Nano)}, ev.JSON)
}

// ackFrame answers a send.
func ackFrame(ref schemas.Ref, id schemas.ID, chat schemas.Chat, ack streams.PubAck, now time.Time) wireFrame {
	return textFrame(256, func(b []byte) []byte {
		b = append(b, `{"t":"ack"`...)
		b = appendRef(b, ref)
		b = append(b, `,"id":"`...)
		b = append(b, id.String()...)
		b = append(b, `","chat":"`...)
		b = append(b, chat.String()...)
		b = append(b, `","seq":`...)
		b = strconv.AppendUint(b, ack.Seq, 10)
		b = append(b, `,"time":"`...)
		b = now.UTC().AppendFormat(b, time.RFC3339Nano)
		b = append(b, '"')
		if ack.Duplicate {
			b = append(b, `,"duplicate":true`...)
		}
		return append(b, '}')
	})
}

// pageFrame splices a history worker's answer, an object that begins with its events.
func pageFrame(ref schemas.Ref, chat schemas.Chat, answer []byte) wireFrame {
	return textFrame(len(answer)+128, func(b []byte) []byte {
		b = append(b, `{"t":"page"`...)
		b = appendRef(b, ref)
		b = append(b, `,"chat":"`...)
		b = append(b, chat.String()...)
		b = append(b, `",`...)
		return append(b, answer[1:]...)
	})
}

// answerFrame splices a service's answer, a JSON object, into the frame of type t.
func answerFrame(t schemas.Type, ref schemas.Ref, answer []byte) wireFrame {
	return textFrame(len(answer)+64, func(b []byte) []byte {
		b = append(append(append(b, `{"t":"`...), t...), '"')
		b = appendRef(b, ref)
		if len(answer) > len("{}") {
			b = append(b, ',')
		}
		return append(b, answer[1:]...)
	})
}

func appendRef(b []byte, ref schemas.Ref) []byte {
	if !ref.Present {
		return b
	}
	return strconv.AppendUint(append(b, `,"ref":`...), ref.Value, 10)
}

// refPointer is ref as the frame types of package schemas carry it.
func refPointer(ref schemas.Ref) *uint64 {
	if !ref.Present {
		return nil
	}
	return &ref.Value
}

func errorFrame(ref schemas.Ref, id string, err *schemas.Error) wireFrame {
	return jsonFrame(schemas.ErrorFrame{T: schemas.TError, Ref: refPointer(ref), ID: id, Error: *err})
}

func doneFrame(ref schemas.Ref) wireFrame {
	return jsonFrame(schemas.Done{T: schemas.TDone, Ref: refPointer(ref)})
}

// pongedFrame answers a ping that is a text frame.
func pongedFrame(ref schemas.Ref) wireFrame {
	return textFrame(64, func(b []byte) []byte {
		return append(appendRef(append(b, `{"t":"pong"`...), ref), '}')
	})
}

// controlBytesMax bounds the payload of a control frame.
const controlBytesMax = 125

func closeFrame(code schemas.CloseCode, reason string) wireFrame {
	reason = reason[:min(len(reason), controlBytesMax-2)]
	b := appendHeader(make([]byte, 0, 2+controlBytesMax), opClose, 2+len(reason))
	b = binary.BigEndian.AppendUint16(b, uint16(code))
	return append(b, reason...)
}

func pongFrame(payload string) wireFrame {
	return append(appendHeader(make([]byte, 0, 2+len(payload)), opPong, len(payload)), payload...)
}

// Frames that are the same for everybody.
var (
	pingFrame   = wireFrame{finBit | opPing, 0}
	resyncFrame = jsonFrame(struct {
		T schemas.Type `json:"t"`
	}{schemas.TResync})
)
