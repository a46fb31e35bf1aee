// Echo answers datagrams at port 5353 with the host's name. Busybox has no program that does.
package main

import (
	"log"
	"net"
	"os"
)

func main() {
	name, err := os.Hostname()
	if err != nil {
		log.Fatal(err)
	}
	conn, err := net.ListenPacket("udp", ":5353")
	if err != nil {
		log.Fatal(err)
	}
	b := make([]byte, 2000)
	for {
		_, from, err := conn.ReadFrom(b)
		if err != nil {
			log.Fatal(err)
		}
		if _, err := conn.WriteTo([]byte(name+"\n"), from); err != nil {
			log.Print(err)
		}
	}
}
