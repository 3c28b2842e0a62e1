"""How tests start a Neo4j server."""

#: Compiled once and simply, and one thread for the garbage: half the processor time until the server answers.
QUICK_JAVA = ("-XX:TieredStopAtLevel=1", "-XX:-UseG1GC", "-XX:+UseSerialGC")
