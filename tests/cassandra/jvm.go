package cassandra

import (
	"fmt"
	"net/url"
	"path/filepath"
)

// Cassandra reaches into the JDK; these are the doors that it needs open.
var (
	jdkExports = []string{
		"java.base/jdk.internal.misc", "java.base/jdk.internal.ref", "java.base/sun.nio.ch",
		"java.management.rmi/com.sun.jmx.remote.internal.rmi",
		"java.rmi/sun.rmi.registry", "java.rmi/sun.rmi.server", "java.rmi/sun.rmi.transport.tcp",
		"java.sql/java.sql", "jdk.unsupported/sun.misc",
	}
	jdkOpens = []string{
		"java.base/java.io", "java.base/java.lang", "java.base/java.lang.module", "java.base/java.lang.reflect",
		"java.base/java.nio", "java.base/java.util", "java.base/java.util.concurrent", "java.base/java.util.concurrent.atomic",
		"java.base/jdk.internal.loader", "java.base/jdk.internal.math", "java.base/jdk.internal.module",
		"java.base/jdk.internal.ref", "java.base/jdk.internal.reflect", "java.base/jdk.internal.util.jar",
		"java.base/sun.nio.ch", "jdk.management/com.sun.management.internal",
	}
)

// jvmArguments is the command line behind "java".
//
// Measured on two busy cores: durable, full JIT and G1 are ready after 16 s (12 s of CPU) with
// 1,190 MiB resident; unsafe, first JIT tier and serial GC after 5 s (6 s of CPU) with 555 MiB.
func jvmArguments(config Config, lib string) []string {
	arguments := []string{
		"-javaagent:" + filepath.Join(lib, "jamm-0.4.0.jar"),
		"-Djdk.attach.allowAttachSelf=true",
		fmt.Sprintf("-Xmx%dm", config.HeapMiB),
		fmt.Sprintf("-XX:MaxDirectMemorySize=%dm", config.HeapMiB/2),
		"-XX:+ExitOnOutOfMemoryError",
		"-XX:+PerfDisableSharedMem",
		"-Dcassandra.config=" + fileURL(config.Dir, yamlName),
		"-Dlogback.configurationFile=" + fileURL(config.Dir, logbackName),
		"-Dcassandra.storagedir=" + config.Dir,
		"-Djava.io.tmpdir=" + config.Dir,
		// Without it Cassandra closes its standard output, and with it the log.
		"-Dcassandra-foreground=true",
		"-Dcassandra.superuser_setup_delay_ms=0",
	}
	if config.alone() {
		arguments = append(arguments, "-Dcassandra.skip_wait_for_gossip_to_settle=0", "-Dcassandra.ring_delay_ms=0")
	}
	if config.Unsafe {
		arguments = append(arguments, "-Dcassandra.unsafesystem=true",
			"-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xss256k")
	} else {
		// A heap of one size: the first minutes of a measurement are not spent growing it.
		arguments = append(arguments, fmt.Sprintf("-Xms%dm", config.HeapMiB), "-XX:+UseG1GC")
	}
	for _, door := range jdkExports {
		arguments = append(arguments, "--add-exports="+door+"=ALL-UNNAMED")
	}
	for _, door := range jdkOpens {
		arguments = append(arguments, "--add-opens="+door+"=ALL-UNNAMED")
	}
	return append(arguments, "-cp", filepath.Join(lib, "*"), "org.apache.cassandra.service.CassandraDaemon")
}

func fileURL(dir, name string) string {
	address := url.URL{Scheme: "file", Path: filepath.ToSlash(filepath.Join(dir, name))}
	return address.String()
}
