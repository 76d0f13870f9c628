"""Pure decisions about who serves: standard library only, so that a serving application may import it cheaply."""
