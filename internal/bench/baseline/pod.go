package main

import (
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// servePod answers HTTP requests and sends datagrams back, both at addr.
func servePod(addr string) error {
	udp, err := net.ListenPacket("udp", addr)
	if err != nil {
		return err
	}
	go func() {
		b := make([]byte, 2048)
		for {
			n, from, err := udp.ReadFrom(b)
			if err != nil {
				log.Fatal("baseline: ", err)
			}
			_, _ = udp.WriteTo(b[:n], from)
		}
	}()
	handler := func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "hello\n") }
	return http.ListenAndServe(addr, http.HandlerFunc(handler))
}

const (
	asking   = 16 // clients of ask
	question = 64 // bytes
	lostIn   = 200 * time.Millisecond
)

// ask prints how many datagrams per second come back from addr.
func ask(addr string, d time.Duration) error {
	var answers, lost atomic.Int64
	errs := make(chan error, asking)
	began := time.Now()
	var group sync.WaitGroup
	for range asking {
		group.Go(func() {
			if err := askOne(addr, began.Add(d), &answers, &lost); err != nil {
				errs <- err
			}
		})
	}
	group.Wait()
	close(errs)
	if err := <-errs; err != nil {
		return err
	}
	if lost.Load() > answers.Load()/100 {
		return fmt.Errorf("%d datagrams were lost, %d came back", lost.Load(), answers.Load())
	}
	fmt.Printf("%.1f\n", float64(answers.Load())/time.Since(began).Seconds())
	return nil
}

// askOne is one client: it sends a datagram and waits until it comes back, or is lost.
func askOne(addr string, until time.Time, answers, lost *atomic.Int64) error {
	c, err := net.Dial("udp", addr)
	if err != nil {
		return err
	}
	defer c.Close()
	b := make([]byte, question)
	for time.Now().Before(until) {
		if _, err := c.Write(b); err != nil {
			return err
		}
		_ = c.SetReadDeadline(time.Now().Add(lostIn))
		switch _, err := c.Read(b); {
		case err == nil:
			answers.Add(1)
		case errors.Is(err, os.ErrDeadlineExceeded):
			lost.Add(1)
		default:
			return err
		}
	}
	return nil
}
