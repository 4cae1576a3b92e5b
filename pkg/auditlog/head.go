package auditlog

import (
	"errors"
	"fmt"
	"io"
	"os"
)

// head is the last line of a log. It stands in a file of its own, FILE.head, so that a log that was cut is found, and so
// that a log whose file was moved away goes on in a new one.
type head struct {
	seq    uint64
	offset int64 // where the line ends, in its file
	hash   string
}

// headForm has one length for all heads: a head is written over the one before, in one piece.
const headForm = "%020d %020d %64s\n"

var headSize = len(fmt.Sprintf(headForm, 0, 0, Start))

// headPath is the file beside a log that keeps its head.
func headPath(path string) string { return path + ".head" }

func (h head) text() []byte { return fmt.Appendf(nil, headForm, h.seq, h.offset, h.hash) }

// parseHead reads what text writes, and nothing else.
func parseHead(text string) (h head, err error) {
	if _, err := fmt.Sscanf(text, "%d %d %64s\n", &h.seq, &h.offset, &h.hash); err != nil || string(h.text()) != text {
		return head{}, errors.New("is not what sluice writes there")
	}
	return h, nil
}

// readHead gives the head that a file holds; that of an empty log when the file is empty.
func readHead(f *os.File) (head, error) {
	text, err := io.ReadAll(io.NewSectionReader(f, 0, int64(headSize)+1))
	if err != nil {
		return head{}, err
	}
	if len(text) == 0 {
		return head{hash: Start}, nil
	}
	h, err := parseHead(string(text))
	if err != nil {
		return head{}, fmt.Errorf("%s %w: move it and the log away to begin a new one", f.Name(), err)
	}
	return h, nil
}
