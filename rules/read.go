package rules

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"syscall"
	"unicode/utf8"
)

// Limits of what a bundle may hold, so that every bundle can be read in bounded time and
// memory, whoever wrote it.
const (
	MaxFileSize   = 1 << 20  // bytes of one file
	MaxBundleSize = 16 << 20 // bytes of all files, tests included
	MaxFiles      = 1000     // listed files, and as many test files
	MaxRules      = 20_000
	maxLines      = 50_000 // of one file
)

// Names with a meaning.
const (
	testSuffix  = "_test.yaml"
	yamlSuffix  = ".yaml"
	currentLink = "..data" // what Kubernetes swaps to change all files of a volume at once
)

// folder is the files of a bundle's directory, each read once: digests, errors and carets
// speak of the same bytes.
type folder struct {
	names []string // of all regular files that are not ignored, sorted
	data  map[string][]byte
	errs  errorList
}

// readFolder reads every file of fsys that can belong to a bundle. Names that begin with a
// dot are not part of one. Where there is a link ..data, as Kubernetes and Bundle.Save make
// it, the files are those of the directory to which it points, and they are all of one
// version even if the link moves meanwhile.
func readFolder(fsys fs.FS) *folder {
	const attempts = 3
	for attempt := 1; ; attempt++ {
		target, linked := readCurrent(fsys)
		var f *folder
		switch {
		case !linked:
			return readFlat(fsys, nil)
		case !fs.ValidPath(target) || strings.Contains(target, "/") || !strings.HasPrefix(target, "."):
			f = &folder{}
			f.fail(currentLink, "%s points to %q; want a directory beside it whose name begins with a dot", currentLink, target)
			return f
		}
		current, err := fs.Sub(fsys, target)
		if err != nil {
			f = &folder{}
			f.fail(currentLink, "cannot be read: %v", err)
			return f
		}
		f = readFlat(current, fsys)
		if again, _ := readCurrent(fsys); again == target || attempt == attempts {
			return f
		}
	}
}

func readCurrent(fsys fs.FS) (target string, ok bool) {
	target, err := fs.ReadLink(fsys, currentLink)
	return target, err == nil
}

// readFlat reads the files of fsys. Where fsys is the inner directory of a volume, outer is
// the one around it, in which nothing else may lie: it would look as if it were in force.
func readFlat(fsys, outer fs.FS) *folder {
	f := &folder{data: make(map[string][]byte)}
	entries, err := fs.ReadDir(fsys, ".")
	if err != nil {
		f.fail("", "%s", unreadableFolder(err))
		return f
	}
	total := 0
	for _, entry := range entries {
		name := entry.Name()
		switch {
		case strings.HasPrefix(name, "."):
			continue
		case len(f.names) >= 2*MaxFiles:
			return tooMuch("the directory holds more than %d files", 2*MaxFiles)
		}
		data, err := readRegular(fsys, name)
		if err != nil {
			f.fail(shownName(name), "%v", err)
			data = nil
		}
		if total += len(data); total > MaxBundleSize {
			return tooMuch("the bundle has more than %d bytes", MaxBundleSize)
		}
		f.names = append(f.names, name)
		if err == nil {
			f.data[name] = data
		}
	}
	slices.Sort(f.names)
	if outer != nil {
		f.checkOuter(outer)
	}
	return f
}

// tooMuch gives a folder of which nothing is read further.
func tooMuch(format string, most int) *folder {
	f := &folder{}
	f.fail("", format, most)
	return f
}

func (f *folder) checkOuter(outer fs.FS) {
	entries, err := fs.ReadDir(outer, ".")
	if err != nil {
		f.fail("", "%s", unreadableFolder(err))
		return
	}
	for _, entry := range entries {
		name := entry.Name()
		if _, inner := slices.BinarySearch(f.names, name); !inner && !strings.HasPrefix(name, ".") {
			f.fail(shownName(name), "lies beside %s, which does not hold it: it is no part of the bundle", currentLink)
		}
	}
}

// readRegular reads one file. It opens nothing but regular files, for opening a pipe waits
// until somebody writes to it.
func readRegular(fsys fs.FS, name string) ([]byte, error) {
	info, err := fs.Stat(fsys, name)
	switch {
	case err != nil:
		return nil, fmt.Errorf("cannot be read: %w", pathless(err))
	case info.IsDir():
		return nil, errors.New("is a directory; a bundle has none")
	case !info.Mode().IsRegular():
		return nil, errors.New("is not a regular file")
	}
	file, err := fsys.Open(name)
	if err != nil {
		return nil, fmt.Errorf("cannot be read: %w", pathless(err))
	}
	defer file.Close()
	data, err := io.ReadAll(io.LimitReader(file, MaxFileSize+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("cannot be read: %w", pathless(err))
	case len(data) > MaxFileSize:
		return nil, fmt.Errorf("has more than %d bytes", MaxFileSize)
	}
	return data, nil
}

// unreadableFolder says why a folder is no bundle.
func unreadableFolder(err error) string {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "the bundle cannot be read: there is no such folder"
	case errors.Is(err, syscall.ENOTDIR):
		return "the bundle cannot be read: this is a file, and a bundle is the folder that holds " + manifestName
	}
	return fmt.Sprintf("the bundle cannot be read: %v", pathless(err))
}

// pathless takes the path off err: messages name the file already.
func pathless(err error) error {
	if wrapped, ok := errors.AsType[*fs.PathError](err); ok {
		return wrapped.Err
	}
	return err
}

func (f *folder) fail(file, format string, args ...any) {
	f.errs.add(Error{Pos: Pos{File: file}, Message: fmt.Sprintf(format, args...)})
}

// shownName makes the name of a file that somebody else chose fit for a message.
func shownName(name string) string {
	if len(name) > maxFileName || strings.ContainsFunc(name, isHidden) {
		return fmt.Sprintf("%.100q", name)
	}
	return name
}

const maxFileName = 128

// checkFileName reports what makes name unfit to be listed in a bundle.
func checkFileName(name string) error {
	switch {
	case name == manifestName:
		return errors.New("bundle.yaml does not list itself")
	case strings.HasSuffix(name, testSuffix):
		return fmt.Errorf("%s: tests are found by their names and not listed", name)
	case len(name) > maxFileName:
		return fmt.Errorf("the name of a file has more than %d bytes", maxFileName)
	case strings.HasPrefix(name, ".") || path.Ext(name) != yamlSuffix || name == yamlSuffix || strings.ContainsFunc(name, notFileName):
		return fmt.Errorf("%q: want a file beside bundle.yaml, with a name of letters, digits, '.', '_' and '-' that ends in .yaml", name)
	}
	return nil
}

func notFileName(r rune) bool {
	switch {
	case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '.', r == '_', r == '-':
		return false
	}
	return true
}

// checkText finds what must not be in a file before YAML is asked: other encodings, hidden
// characters, and what the YAML library takes long over. The lines that YAML counts are
// then those that editors count.
func (t *sourceText) checkText() []Error {
	var errs []Error
	fail := func(offset int, format string, args ...any) {
		pos := t.pos(offset)
		errs = append(errs, Error{Pos: pos, Message: fmt.Sprintf(format, args...), Caret: t.caret(pos)})
	}
	if len(t.starts) > maxLines {
		return append(errs, Error{Pos: Pos{File: t.file}, Message: fmt.Sprintf("has more than %d lines", maxLines)})
	}
	for i := 0; i < len(t.data) && len(errs) < maxErrors; {
		r, size := utf8.DecodeRune(t.data[i:])
		switch {
		case r == utf8.RuneError && size == 1:
			fail(i, "is not UTF-8")
			return errs
		case r == '\r' && !bytes.HasPrefix(t.data[i+1:], []byte("\n")):
			fail(i, "a carriage return without a line feed")
		case r == '\n', r == '\r', r == '\t':
		case isHidden(r):
			fail(i, "the character %U is not allowed: it does not show", r)
		case r == '%' && (i == 0 || t.data[i-1] == '\n'):
			fail(i, "a line may not begin with %%: YAML directives are not allowed")
		}
		i += size
	}
	return errs
}
