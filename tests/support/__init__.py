"""What the test files share: the reference, the checks, the cases; no test file imports another one."""
