package datapath

import (
	"fmt"
	"io"
	"net"
	"os"
	"time"
)

// runPod is what a test runs in the network of a pod: "serve ADDR" answers TCP and UDP with
// a word, and "ask NETWORK ADDR" prints the answer.
func runPod(args []string) {
	err := fmt.Errorf("arguments %q", args)
	switch {
	case len(args) == 2 && args[0] == "serve":
		err = servePod(args[1])
	case len(args) == 3 && args[0] == "ask":
		err = askPod(args[1], args[2])
	}
	if err != nil {
		fmt.Println("ERROR", err)
		os.Exit(1)
	}
	os.Exit(0)
}

func servePod(addr string) error {
	ln, err := net.Listen("tcp4", addr)
	if err != nil {
		return err
	}
	udp, err := net.ListenPacket("udp4", addr)
	if err != nil {
		return err
	}
	fmt.Println("serves")
	go func() {
		b := make([]byte, 100)
		for {
			_, from, err := udp.ReadFrom(b)
			if err != nil {
				return
			}
			_, _ = udp.WriteTo([]byte("pod"), from)
		}
	}()
	for {
		c, err := ln.Accept()
		if err != nil {
			return err
		}
		_, _ = io.WriteString(c, "pod")
		_ = c.Close()
	}
}

func askPod(network, addr string) error {
	c, err := net.DialTimeout(network, addr, 5*time.Second)
	if err != nil {
		return err
	}
	b := make([]byte, 100)
	for range 10 { // a datagram may be lost
		if network == "udp4" {
			_, _ = io.WriteString(c, "?")
		}
		_ = c.SetReadDeadline(time.Now().Add(time.Second))
		var n int
		if n, err = c.Read(b); err == nil {
			fmt.Print(string(b[:n]))
			return nil
		}
	}
	return err
}
