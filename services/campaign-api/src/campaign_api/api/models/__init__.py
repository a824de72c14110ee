"""Shapes of requests and answers, each field described: the OpenAPI document is made of these."""
