// Web answers HTTP requests at port 8080 with the host's name. It ends as a server behind a
// service should: after SIGTERM it answers with "Connection: close" and still takes connections,
// for three seconds. Then it ends with its last connection. It never closes a connection on which
// a request may be under way.
package main

import (
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// serveOn is how long new connections are taken after SIGTERM.
const serveOn = 3 * time.Second

func main() {
	name, err := os.Hostname()
	if err != nil {
		log.Fatal(err)
	}
	term := make(chan os.Signal, 1)
	signal.Notify(term, syscall.SIGTERM)
	ln, err := net.Listen("tcp", ":8080")
	if err != nil {
		log.Fatal(err)
	}
	var ending atomic.Bool
	var open sync.WaitGroup // connections
	server := http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			if ending.Load() {
				w.Header().Set("Connection", "close")
			}
			if _, err := io.WriteString(w, name+"\n"); err != nil {
				log.Print(err)
			}
		}),
		ConnState: func(_ net.Conn, s http.ConnState) {
			switch s {
			case http.StateNew:
				open.Add(1)
			case http.StateClosed:
				open.Done()
			}
		},
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(ln) }()
	<-term
	ending.Store(true)
	time.Sleep(serveOn)
	if err := ln.Close(); err != nil {
		log.Fatal(err)
	}
	<-served
	open.Wait()
}
