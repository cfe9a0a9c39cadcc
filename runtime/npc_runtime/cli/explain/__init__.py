"""Why something is as it is: pure rules over facts, each one naming one cause."""
