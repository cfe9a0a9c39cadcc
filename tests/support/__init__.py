"""What tests share: fakes that honour the ports, clocks that tests own, and a control plane of their own."""
