package bench

import "context"

// Each type is a family of workloads. A family has its own methods, and embeds
// the run, which all families share.
type (
	// messageWorkloads send messages through a server that is shared.
	messageWorkloads struct{ *run }
	// receiptWorkloads mark messages as delivered and read.
	receiptWorkloads struct{ *run }
	// pageWorkloads read pages of a long chat.
	pageWorkloads struct{ *run }
	// connectionWorkloads open many connections.
	connectionWorkloads struct{ *run }
	// storageWorkloads measure the log, and the permanent store behind it.
	storageWorkloads struct{ *run }
	// groupWorkloads measure users with many chats, and groups of many users.
	groupWorkloads struct{ *run }
	// presenceWorkloads measure the cost and the delay of presence.
	presenceWorkloads struct{ *run }
)

// workload returns the method that runs a workload, nil if there is none of that name.
func (r *run) workload(name string) func(context.Context) error {
	return map[string]func(context.Context) error{
		ceilingWorkload:  messageWorkloads{r}.ceiling,
		directWorkload:   messageWorkloads{r}.direct,
		fanoutWorkload:   messageWorkloads{r}.fanout,
		groupWorkload:    messageWorkloads{r}.group,
		latencyWorkload:  messageWorkloads{r}.latency,
		receiptsWorkload: receiptWorkloads{r}.receipts,
		historyWorkload:  pageWorkloads{r}.history,
		pagesWorkload:    pageWorkloads{r}.pages,
		idleWorkload:     connectionWorkloads{r}.idle,
		stormWorkload:    connectionWorkloads{r}.storm,
		replicasWorkload: storageWorkloads{r}.replicas,
		restartWorkload:  storageWorkloads{r}.restart,
		persistWorkload:  storageWorkloads{r}.persist,
		connectWorkload:  groupWorkloads{r}.connect,
		chatsWorkload:    groupWorkloads{r}.chats,
		createWorkload:   groupWorkloads{r}.create,
		presenceWorkload: presenceWorkloads{r}.presence,
	}[name]
}

// kindOfServer is the server that workloads of one kind share.
type kindOfServer int

const (
	noServer kindOfServer = iota // the workload starts the servers that it needs
	ofMessages
	// ofConnections get a new server: the memory that messages left in a server
	// would blur the memory of a connection.
	ofConnections
)

func serverOf(workload string) kindOfServer {
	switch workload {
	case replicasWorkload, restartWorkload, persistWorkload, pagesWorkload, connectWorkload, chatsWorkload, createWorkload, presenceWorkload:
		return noServer
	case idleWorkload, stormWorkload:
		return ofConnections
	default:
		return ofMessages
	}
}
