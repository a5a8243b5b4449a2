"""Networks, written with torch and the standard library only: these very files are copied into packages."""
