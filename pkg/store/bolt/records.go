package bolt

import (
	"bytes"
	"context"
	"encoding/binary"

	"github.com/sluice-gateway/sluice/pkg/store"
)

// Records implements store.Store.
func (s *Store) Records(ctx context.Context, table string) ([]store.Record, error) {
	return s.tables.Records(ctx, table)
}

// Record implements store.Store.
func (s *Store) Record(ctx context.Context, table, key string) (store.Record, error) {
	return s.tables.Record(ctx, table, key)
}

// AllRecords implements store.Store.
func (s *Store) AllRecords(ctx context.Context) (map[string][]store.Record, error) {
	return s.tables.All(ctx)
}

// WriteRecords implements store.Store.
func (s *Store) WriteRecords(ctx context.Context, table string, changes ...store.RecordChange) ([]store.Record, error) {
	return s.tables.Write(ctx, table, changes, func(changes []store.RecordChange) error {
		return s.update(func(w writer) error { return w.putRecords(table, changes) })
	})
}

// WatchRecords implements store.Store.
func (s *Store) WatchRecords(ctx context.Context, table string) <-chan store.RecordBatch {
	return s.tables.Watch(ctx, table)
}

// recordKey is the table and the key; no table has a zero byte in its name.
func recordKey(table, key string) []byte { return append(append([]byte(table), 0), key...) }

// recordValue is the version, 8 bytes, and what is kept.
func recordValue(r store.Record) []byte { return append(numberKey(r.Version), r.Value...) }

func parseRecord(key, value []byte) (table string, r store.Record, err error) {
	name, rest, found := bytes.Cut(key, []byte{0})
	if !found || len(value) < 8 {
		return "", r, damaged("the record %q cannot be read", key)
	}
	r = store.Record{Key: string(rest), Value: bytes.Clone(value[8:]), Version: binary.BigEndian.Uint64(value)}
	if r.Version == 0 || store.CheckTable(string(name)) != nil || store.CheckRecord(r) != nil {
		return "", r, damaged("the record %q makes no sense", key)
	}
	return string(name), r, nil
}

// records are those of all tables, sorted by key; none in a file of the first format.
func (r reader) records() (map[string][]store.Record, error) {
	out := map[string][]store.Record{}
	if r.tx.Bucket([]byte(bucketRecords)) == nil {
		return out, nil
	}
	err := r.table(bucketRecords).each(func(key, value []byte) error {
		table, record, err := parseRecord(key, value)
		out[table] = append(out[table], record)
		return err
	})
	return out, err
}

// putRecords makes changes, and the file one of the present format, so that no version which knows of no records writes
// to it.
func (w writer) putRecords(table string, changes []store.RecordChange) error {
	if w.tx.Bucket([]byte(bucketRecords)) == nil {
		if _, err := w.tx.CreateBucket([]byte(bucketRecords)); err != nil {
			return err
		}
		if err := w.putFormat(); err != nil {
			return err
		}
	}
	t := w.table(bucketRecords)
	for _, c := range changes {
		var err error
		if key := recordKey(table, c.Key); c.Deleted {
			err = t.delete(key)
		} else {
			err = t.put(key, recordValue(c.Record))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (w writer) putAllRecords(tables map[string][]store.Record) error {
	for name, records := range tables {
		changes := make([]store.RecordChange, len(records))
		for i, r := range records {
			changes[i].Record = r
		}
		if err := w.putRecords(name, changes); err != nil {
			return err
		}
	}
	return nil
}
