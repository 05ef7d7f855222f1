//go:build !race

package cql

const raceDetector = false
