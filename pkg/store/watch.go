package store

import "context"

// Watch is the Watch of Store.
func (l *Ledger) Watch(ctx context.Context) <-chan uint64 {
	ch := make(chan uint64, 1)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed || ctx.Err() != nil {
		close(ch)
		return ch
	}
	ch <- latest(l.revisions).Number
	l.watchers[ch] = context.AfterFunc(ctx, func() { l.unwatch(ch) })
	return ch
}

func (l *Ledger) unwatch(ch chan uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, ok := l.watchers[ch]; ok {
		delete(l.watchers, ch)
		close(ch)
	}
}

// tell puts the head into every watcher's channel, in the place of a number not yet read. The lock is held, so
// nobody else sends.
func (l *Ledger) tell() {
	head := latest(l.revisions).Number
	for ch := range l.watchers {
		select {
		case <-ch:
		default:
		}
		ch <- head
	}
}

// Close waits for the commit under way, refuses all later calls and closes the watchers' channels. It reports
// whether it was this call that closed the ledger.
func (l *Ledger) Close() bool {
	l.writing.Lock()
	defer l.writing.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return false
	}
	l.closed = true
	for ch, stop := range l.watchers {
		stop()
		close(ch)
	}
	l.watchers = nil
	return true
}
