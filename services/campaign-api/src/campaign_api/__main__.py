"""`python -m campaign_api` runs the service, `python -m campaign_api migrate` brings its schema up to date."""

from campaign_api.app import build
from campaign_api.settings import CampaignApiSettings
from postrider.runtime import main

if __name__ == "__main__":
    main("campaign-api", "campaign_api", CampaignApiSettings, build)
