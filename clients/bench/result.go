package bench

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/go-json-experiment/json"
)

// Result is what one case of a workload gave. Zero fields do not apply.
type Result struct {
	Workload string  `json:"workload"`
	Case     string  `json:"case,omitzero"`
	Rate     float64 `json:"rate"` // of Unit per second
	Unit     string  `json:"unit"`
	P50      float64 `json:"p50Millis"`
	P99      float64 `json:"p99Millis"`
	// A delivery is an event that reached a session, or ceiling's subscriber.
	DeliveriesPerSecond    float64 `json:"deliveriesPerSecond,omitzero"`
	CPUSeconds             float64 `json:"serverCPUSeconds,omitzero"`
	CPUPer10kDeliveries    float64 `json:"serverCPUSecondsPer10kDeliveries,omitzero"`
	DeliveriesPerCPUSecond float64 `json:"deliveriesPerServerCPUSecond,omitzero"`
	ResidentBytes          float64 `json:"serverResidentBytes,omitzero"`
	BytesPerConnection     float64 `json:"serverBytesPerConnection,omitzero"` // of idle
	Seconds                float64 `json:"seconds,omitzero"`                  // of storm, until all were resumed
	Ratio                  float64 `json:"ratio,omitzero"`                    // to what RatioOf names, measured in the same run
	RatioOf                string  `json:"ratioOf,omitzero"`
}

func millis(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// setLoad fills in what a measurement gave.
func (r *Result) setLoad(m measurement, h *histogram) {
	r.Rate = float64(m.operations) / m.elapsed.Seconds()
	r.P50, r.P99 = millis(h.quantile(0.5)), millis(h.quantile(0.99))
	r.DeliveriesPerSecond = float64(m.deliveries) / m.elapsed.Seconds()
	r.CPUSeconds = m.cpuSeconds
	r.ResidentBytes = m.residentBytes
	if m.deliveries > 0 && m.cpuSeconds > 0 {
		r.CPUPer10kDeliveries = m.cpuSeconds / float64(m.deliveries) * 10_000
		r.DeliveriesPerCPUSecond = float64(m.deliveries) / m.cpuSeconds
	}
}

// remark is the last column of the table: what the workload is about.
func (r *Result) remark() string {
	var parts []string
	if r.BytesPerConnection > 0 {
		parts = append(parts, fmt.Sprintf("%.1f KiB per connection", r.BytesPerConnection/1024))
	}
	if r.Seconds > 0 {
		parts = append(parts, fmt.Sprintf("all resumed in %.2f s, %.2f CPU s", r.Seconds, r.CPUSeconds))
	}
	if r.RatioOf != "" {
		parts = append(parts, fmt.Sprintf("%.2f of %s", r.Ratio, r.RatioOf))
	}
	return strings.Join(parts, ", ")
}

func writeJSONLine(w io.Writer, r Result) error {
	line, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("encode result %s: %w", r.Workload, err)
	}
	_, err = fmt.Fprintf(w, "%s\n", line)
	return err
}

func writeTable(w io.Writer, results []Result) error {
	tab := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tab, "workload\tcase\trate\tp50 ms\tp99 ms\tdeliveries/s\tCPU s/10k deliveries\tdeliveries/CPU s\tresident MiB\t")
	number := func(format string, n float64) string {
		if n == 0 {
			return "-"
		}
		return fmt.Sprintf(format, n)
	}
	for i := range results {
		r := &results[i]
		fmt.Fprintf(tab, "%s\t%s\t%.0f %s/s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", r.Workload, r.Case, r.Rate, r.Unit,
			number("%.2f", r.P50), number("%.2f", r.P99), number("%.0f", r.DeliveriesPerSecond), number("%.4f", r.CPUPer10kDeliveries),
			number("%.0f", r.DeliveriesPerCPUSecond), number("%.0f", r.ResidentBytes/(1<<20)), r.remark())
	}
	return tab.Flush()
}
