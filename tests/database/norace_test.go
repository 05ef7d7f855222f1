//go:build !race

package database

const raceDetector = false
