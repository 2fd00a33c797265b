"""The app: a page in the browser in which one sees what a model makes of a photo. Needs the extra `app`."""
