package bench

import (
	"fmt"
	"io"
	"slices"
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
	Unit     string  `json:"unit"` // empty where there are figures only
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
	Goals                  []Goal  `json:"goals,omitzero"`
	// Figures are what else a workload is about, in its order.
	Figures []Figure `json:"figures,omitzero"`
}

// Figure is a number with its name.
type Figure struct {
	Name  string  `json:"name"`
	Value float64 `json:"value"`
	Unit  string  `json:"unit,omitzero"`
}

// Goal is what a result was to reach.
type Goal struct {
	Text    string `json:"text"`
	Reached bool   `json:"reached"`
}

func (g Goal) String() string {
	if g.Reached {
		return "goal: " + g.Text + ": reached"
	}
	return "goal: " + g.Text + ": MISSED"
}

// value has three digits, or all before the point.
func (f Figure) value() string {
	if f.Value >= 100 {
		return fmt.Sprintf("%.0f", f.Value)
	}
	return fmt.Sprintf("%.3g", f.Value)
}

func (f Figure) String() string { return strings.TrimSpace(f.Name + " " + f.value() + " " + f.Unit) }

func (f Figure) isOf(other Figure) bool { return f.Name == other.Name && f.Unit == other.Unit }

func (r *Result) figure(name string, value float64, unit string) {
	r.Figures = append(r.Figures, Figure{name, value, unit})
}

// goal sets a result beside its bound.
func (r *Result) goal(reached bool, format string, args ...any) {
	r.Goals = append(r.Goals, Goal{fmt.Sprintf(format, args...), reached})
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

// setTimes fills in what happened one after the other, and how long each took.
func (r *Result) setTimes(h *histogram) {
	r.Rate = float64(h.count()) / h.sum().Seconds()
	r.P50, r.P99 = millis(h.quantile(0.5)), millis(h.quantile(0.99))
}

// compare sets the ratio to another result of the run, if there is one.
func (r *Result) compare(to *Result, ratio func(*Result) float64) {
	if to == nil || to.Rate == 0 {
		return
	}
	r.Ratio, r.RatioOf = ratio(to), to.Workload
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
	for _, g := range r.Goals {
		parts = append(parts, g.String())
	}
	return strings.Join(parts, ", ")
}

// line tells of the result while the run goes on.
func (r *Result) line() string {
	var parts []string
	if r.Unit != "" {
		parts = append(parts, fmt.Sprintf("%.0f %s/s, p50 %.2f ms, p99 %.2f ms %s", r.Rate, r.Unit, r.P50, r.P99, r.remark()))
	}
	for _, f := range r.Figures {
		parts = append(parts, f.String())
	}
	return r.Workload + " " + r.Case + ": " + strings.Join(parts, ", ")
}

func writeJSONLine(w io.Writer, r Result) error {
	line, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("encode result %s: %w", r.Workload, err)
	}
	_, err = fmt.Fprintf(w, "%s\n", line)
	return err
}

// writeTable writes a table of what all workloads have, and tables of the figures of
// each workload: results that have none in common follow in another.
func writeTable(w io.Writer, results []Result) error {
	tab := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	rows := 0
	for i := range results {
		r := &results[i]
		if r.Unit == "" {
			continue
		}
		if rows++; rows == 1 {
			fmt.Fprintln(tab, "workload\tcase\trate\tp50 ms\tp99 ms\tdeliveries/s\tCPU s/10k deliveries\tdeliveries/CPU s\tresident MiB\t")
		}
		fmt.Fprintf(tab, "%s\t%s\t%.0f %s/s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", r.Workload, r.Case, r.Rate, r.Unit,
			unlessZero("%.2f", r.P50), unlessZero("%.2f", r.P99), unlessZero("%.0f", r.DeliveriesPerSecond), unlessZero("%.4f", r.CPUPer10kDeliveries),
			unlessZero("%.0f", r.DeliveriesPerCPUSecond), unlessZero("%.0f", r.ResidentBytes/(1<<20)), r.remark())
	}
	results = slices.DeleteFunc(slices.Clone(results), func(r Result) bool { return len(r.Figures) == 0 })
	for len(results) > 0 {
		n, columns := 0, []Figure(nil)
		for n < len(results) && (n == 0 || results[n].Workload == results[0].Workload && slices.ContainsFunc(results[n].Figures, isOneOf(columns))) {
			for _, f := range results[n].Figures {
				if !isOneOf(columns)(f) {
					columns = append(columns, f)
				}
			}
			n++
		}
		writeFigures(tab, results[:n], columns)
		results = results[n:]
	}
	return tab.Flush()
}

func isOneOf(figures []Figure) func(Figure) bool {
	return func(f Figure) bool { return slices.ContainsFunc(figures, f.isOf) }
}

// writeFigures writes the figures of one workload, a column for each name.
func writeFigures(w io.Writer, results []Result, columns []Figure) {
	fmt.Fprintf(w, "\n%s\t", results[0].Workload)
	for _, c := range columns {
		fmt.Fprintf(w, "%s\t", strings.TrimSpace(c.Name+" "+c.Unit))
	}
	fmt.Fprintln(w)
	for i := range results {
		fmt.Fprintf(w, "%s\t", results[i].Case)
		for _, c := range columns {
			text := "-"
			if at := slices.IndexFunc(results[i].Figures, c.isOf); at >= 0 {
				text = results[i].Figures[at].value()
			}
			fmt.Fprintf(w, "%s\t", text)
		}
		fmt.Fprintln(w)
	}
}

func unlessZero(format string, n float64) string {
	if n == 0 {
		return "-"
	}
	return fmt.Sprintf(format, n)
}
