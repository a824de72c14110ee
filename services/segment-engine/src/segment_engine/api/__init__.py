"""Internal HTTP for campaign-api: estimates, the message log, people, the catalogue, user lists."""
