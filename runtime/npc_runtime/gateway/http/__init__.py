"""HTTP/1.1 on the wire: reading requests and engine answers strictly, and writing answers."""
