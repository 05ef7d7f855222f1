package main

type benchCommand struct{}

func (c *benchCommand) Run(p *process) error { return nil }
