// The responses of the sample application, by path.
package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"sort"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/gorilla/websocket"
)

// interval is the time between two events of /sse.
const interval = 100 * time.Millisecond

// openSockets counts the WebSockets that are still open.
var openSockets sync.WaitGroup

func (app *application) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/", app.hello)
	mux.HandleFunc("/healthz", app.health)
	mux.HandleFunc("/grpc.health.v1.Health/Check", app.grpcHealth)
	mux.HandleFunc("/ws", app.socket)
	mux.HandleFunc("/sse", events)
	mux.HandleFunc("/slow", app.slow)
	mux.HandleFunc("/echo", echo)
	mux.HandleFunc("/headers", headers)
	mux.HandleFunc("/file", file)
	mux.HandleFunc("/dns", lookup)
	return mux
}

func (app *application) hello(w http.ResponseWriter, _ *http.Request) {
	fmt.Fprintf(w, "hello from %s\n", app.host)
}

func (app *application) health(w http.ResponseWriter, _ *http.Request) {
	if app.unready || app.stopping.Load() {
		http.Error(w, "not ready", http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintln(w, "ok")
}

// socket greets with the host's name, then sends back what it receives, until the client closes.
func (app *application) socket(w http.ResponseWriter, r *http.Request) {
	upgrader := websocket.Upgrader{CheckOrigin: func(*http.Request) bool { return true }}
	connection, err := upgrader.Upgrade(w, r, nil)
	if err != nil {
		return
	}
	openSockets.Add(1)
	defer openSockets.Done()
	defer connection.Close()
	if err := connection.WriteMessage(websocket.TextMessage, []byte(app.host)); err != nil {
		return
	}
	for {
		kind, message, err := connection.ReadMessage()
		if err != nil {
			return
		}
		if err := connection.WriteMessage(kind, message); err != nil {
			return
		}
	}
}

// events sends ?count= server-sent events (without end by default), numbered from 0.
func events(w http.ResponseWriter, r *http.Request) {
	count, err := strconv.Atoi(r.URL.Query().Get("count"))
	if err != nil {
		count = -1
	}
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	response := http.NewResponseController(w)
	for number := 0; count < 0 || number < count; number++ {
		if _, err := fmt.Fprintf(w, "id: %d\ndata: %s\n\n", number, time.Now().UTC().Format(time.RFC3339Nano)); err != nil {
			return
		}
		if err := response.Flush(); err != nil {
			return
		}
		select {
		case <-time.After(interval):
		case <-r.Context().Done():
			return
		}
	}
}

// slow answers after ?for=, a duration such as 2s.
func (app *application) slow(w http.ResponseWriter, r *http.Request) {
	pause, err := time.ParseDuration(r.URL.Query().Get("for"))
	if err != nil {
		http.Error(w, "write /slow?for=2s: "+err.Error(), http.StatusBadRequest)
		return
	}
	select {
	case <-time.After(pause):
		fmt.Fprintf(w, "slow hello from %s after %s\n", app.host, pause)
	case <-r.Context().Done():
	}
}

func echo(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/octet-stream")
	if _, err := io.Copy(w, r.Body); err != nil {
		say("echo: %v", err)
	}
}

// headers lists what arrived: method, path and protocol, then Host and one line per field value, sorted.
func headers(w http.ResponseWriter, r *http.Request) {
	fmt.Fprintf(w, "%s %s %s\nHost: %s\nRemote: %s\n", r.Method, r.URL.RequestURI(), r.Proto, r.Host, r.RemoteAddr)
	names := make([]string, 0, len(r.Header))
	for name := range r.Header {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		for _, value := range r.Header[name] {
			fmt.Fprintf(w, "%s: %s\n", name, value)
		}
	}
}

// file answers with the content of the file ?p= in the pod.
func file(w http.ResponseWriter, r *http.Request) {
	content, err := os.ReadFile(r.URL.Query().Get("p"))
	if err != nil {
		http.Error(w, err.Error(), http.StatusNotFound)
		return
	}
	if _, err := w.Write(content); err != nil {
		say("file: %v", err)
	}
}

// lookup answers with the addresses that the name ?n= resolves to in the pod.
func lookup(w http.ResponseWriter, r *http.Request) {
	addresses, err := net.DefaultResolver.LookupHost(r.Context(), r.URL.Query().Get("n"))
	if err != nil {
		http.Error(w, err.Error(), http.StatusNotFound)
		return
	}
	fmt.Fprintln(w, strings.Join(addresses, " "))
}
