// The peer of the throughput benchmark: what an ordinary team would write for the scans of its gates. It parses a scan,
// checks it roughly, accepts every code of its customer, and remembers the answer by event id. Compared with the
// connector, it has no look-ups, sessions, limits, log or metrics.
//
// Without an argument, it remembers events in memory. With a file as its argument, it commits each event to SQLite
// before it answers. It prints its address when it listens.
package main

import (
	"bytes"
	"database/sql"
	"encoding/json"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	_ "github.com/mattn/go-sqlite3"
)

type scan struct {
	RequestID   string `json:"requestId"`
	IdentityKey []byte `json:"identityKey"` // encoding/json decodes the Base64
	StoreID     string `json:"storeId"`
	AuthEvent   struct {
		ID        string    `json:"id"`
		Timestamp time.Time `json:"timestamp"`
		Location  string    `json:"location"`
	} `json:"authEvent"`
	KeyChannel string `json:"keyChannel"`
}

func (s *scan) valid() bool {
	return len(s.RequestID) == 36 && len(s.IdentityKey) > 0 && s.StoreID == "STORE-001" && len(s.AuthEvent.ID) == 36 &&
		(s.AuthEvent.Location == "ENTRY" || s.AuthEvent.Location == "EXIT") &&
		(s.KeyChannel == "" || s.KeyChannel == "OPTICAL" || s.KeyChannel == "RADIO")
}

type visitor struct {
	ID   string `json:"id"`
	Type string `json:"type"`
}

type answer struct {
	VisitorDetails visitor `json:"visitorDetails"`
}

// A ledger remembers the answer to each event.
type ledger interface {
	// record returns the recorded answer if the event is known. Otherwise it records this one and returns it.
	record(event string, answer []byte) ([]byte, error)
	count() (int, error)
}

type memory struct {
	mutex   sync.Mutex
	answers map[string][]byte
}

func (m *memory) record(event string, answer []byte) ([]byte, error) {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	if recorded, known := m.answers[event]; known {
		return recorded, nil
	}
	m.answers[event] = answer
	return answer, nil
}

func (m *memory) count() (int, error) {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	return len(m.answers), nil
}

type sqlite struct {
	database     *sql.DB
	insert, find *sql.Stmt
}

func openSQLite(file string) *sqlite {
	database, err := sql.Open("sqlite3", "file:"+file+"?_journal_mode=WAL&_synchronous=FULL")
	check(err)
	database.SetMaxOpenConns(1) // SQLite has one writer at a time
	_, err = database.Exec("CREATE TABLE event (id TEXT PRIMARY KEY, answer BLOB NOT NULL)")
	check(err)
	insert, err := database.Prepare("INSERT INTO event (id, answer) VALUES (?, ?) ON CONFLICT DO NOTHING")
	check(err)
	find, err := database.Prepare("SELECT answer FROM event WHERE id = ?")
	check(err)
	return &sqlite{database, insert, find}
}

func (s *sqlite) record(event string, answer []byte) ([]byte, error) {
	result, err := s.insert.Exec(event, answer)
	if err != nil {
		return nil, err
	}
	inserted, err := result.RowsAffected()
	if err == nil && inserted == 0 {
		err = s.find.QueryRow(event).Scan(&answer)
	}
	return answer, err
}

func (s *sqlite) count() (number int, err error) {
	err = s.database.QueryRow("SELECT count(*) FROM event").Scan(&number)
	return number, err
}

func verify(events ledger, w http.ResponseWriter, r *http.Request) {
	var s scan
	if err := json.NewDecoder(r.Body).Decode(&s); err != nil || !s.valid() {
		http.Error(w, "not a scan", http.StatusBadRequest)
		return
	}
	if !bytes.HasPrefix(s.IdentityKey, []byte("JWOACME")) {
		http.Error(w, "unknown key", http.StatusUnauthorized)
		return
	}
	body, err := json.Marshal(answer{visitor{ID: "shopper-0000000000000000000000000000", Type: "SHOPPER"}})
	if err == nil {
		body, err = events.record(s.AuthEvent.ID, body)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Write(body)
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func main() {
	var events ledger = &memory{answers: map[string][]byte{}}
	if len(os.Args) > 1 {
		events = openSQLite(os.Args[1])
	}
	http.HandleFunc("/v1/identity/identity-keys", func(w http.ResponseWriter, r *http.Request) { verify(events, w, r) })
	// The number of recorded events, for the benchmark.
	http.HandleFunc("/events", func(w http.ResponseWriter, _ *http.Request) {
		number, err := events.count()
		check(err)
		fmt.Fprint(w, number)
	})
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	check(err)
	fmt.Println(listener.Addr())
	check(http.Serve(listener, nil))
}
