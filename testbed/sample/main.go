// The sample application of the cluster tests. Its flags make it start slowly, fail its probes or ignore SIGTERM. It
// keeps no state.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
	"time"
)

// behaviour holds the values of the flags.
type behaviour struct {
	address      string
	https        string
	slowStart    time.Duration
	slowStop     time.Duration
	crashAtStart bool
	crashAfter   time.Duration
	unready      bool
}

// application is one running sample.
type application struct {
	behaviour
	host     string
	stopping atomic.Bool
}

func main() {
	var asked behaviour
	flag.StringVar(&asked.address, "addr", ":8080", "where to listen")
	flag.StringVar(&asked.https, "https", "", "where to listen for HTTPS as well")
	flag.DurationVar(&asked.slowStart, "slow-start", 0, "listen only after this long")
	flag.DurationVar(&asked.slowStop, "slow-stop", 0, "after SIGTERM, go on answering this long with /healthz failing")
	flag.BoolVar(&asked.crashAtStart, "crash-at-start", false, "exit with 1 before listening")
	flag.DurationVar(&asked.crashAfter, "crash-after", 0, "exit with 1 this long after the start")
	flag.BoolVar(&asked.unready, "unready", false, "let /healthz always fail")
	flag.Parse()

	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	app := &application{behaviour: asked, host: host}
	if err := app.run(); err != nil {
		say("ends with: %v", err)
		os.Exit(1)
	}
}

// run serves until SIGTERM, then waits for the requests in flight. WebSockets stay open until the grace period of the
// kubelet is over, as in an application that does not close them.
func (app *application) run() error {
	say("started")
	if app.crashAtStart {
		return errors.New("asked to crash at the start")
	}
	if app.crashAfter > 0 {
		time.AfterFunc(app.crashAfter, func() {
			say("ends with: asked to crash after %s", app.crashAfter)
			os.Exit(1)
		})
	}
	terminated := make(chan os.Signal, 1)
	signal.Notify(terminated, syscall.SIGTERM, syscall.SIGINT)

	select {
	case <-time.After(app.slowStart):
	case <-terminated:
		say("SIGTERM before listening")
		return nil
	}
	listener, err := net.Listen("tcp", app.address)
	if err != nil {
		return err
	}
	server := &http.Server{Handler: app.routes(), Protocols: new(http.Protocols)}
	server.Protocols.SetHTTP1(true)
	// For gRPC.
	server.Protocols.SetUnencryptedHTTP2(true)
	say("listening on %s", listener.Addr())
	failed := make(chan error, 2)
	go func() { failed <- server.Serve(listener) }()
	if app.https != "" {
		go func() { failed <- serveHTTPS(app.https, server.Handler) }()
	}

	select {
	case err := <-failed:
		return err
	case <-terminated:
	}
	say("SIGTERM: draining")
	app.stopping.Store(true)
	time.Sleep(app.slowStop)
	if err := server.Shutdown(context.Background()); err != nil {
		return err
	}
	openSockets.Wait()
	say("drained")
	return nil
}

// say writes one line to the log.
func say(format string, values ...any) {
	fmt.Println(time.Now().UTC().Format(time.RFC3339Nano), fmt.Sprintf(format, values...))
}
