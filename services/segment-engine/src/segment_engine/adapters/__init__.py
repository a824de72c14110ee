"""Tables in Postgres, one module each: SQL in, domain objects out. All statements are batches."""
