package streams

// Component is a part of Parley as NATS knows it: its user in nats.conf, which
// decides what it may publish and subscribe.
type Component string

const (
	EdgeComponent     Component = "edge"
	WorkerComponent   Component = "worker"
	OperatorComponent Component = "operator"
	ServiceComponent  Component = "service"
	// AdminComponent is the user of the system account: it sees servers, not chats.
	AdminComponent Component = "admin"
)

// InboxPrefix is where the component receives answers; nats.conf lets nobody else listen there.
func (c Component) InboxPrefix() string {
	switch c {
	case OperatorComponent, AdminComponent:
		return "_INBOX" // the nats CLI's default
	default:
		return "_INBOX_" + string(c)
	}
}

// PasswordVariable is the environment variable from which nats.conf takes the component's password.
func (c Component) PasswordVariable() string {
	switch c {
	case EdgeComponent:
		return "PARLEY_NATS_EDGE_PASSWORD"
	case WorkerComponent:
		return "PARLEY_NATS_WORKER_PASSWORD"
	case OperatorComponent:
		return "PARLEY_NATS_OPERATOR_PASSWORD"
	case ServiceComponent:
		return "PARLEY_NATS_SERVICE_PASSWORD"
	default:
		return "PARLEY_NATS_ADMIN_PASSWORD"
	}
}

// Components returns the users of nats.conf.
func Components() []Component {
	return []Component{EdgeComponent, WorkerComponent, OperatorComponent, ServiceComponent, AdminComponent}
}
